ardour {
  ["type"] = "EditorAction",
  name = "AudioSR: render with plugin",
  license = "MIT",
  author = "audiosr-bridge",
  description = [[
Bounces the selected range of the selected tracks (or, without a range, their selected regions'
extent) through their plugins, with AudioSR Bridge among them, to new tracks beside them. The plugin
is put on a track that has none, and waits for the daemon while it is bounced.]],
}

function factory() return function()
  local home = ARDOUR.LuaAPI.build_filename(ARDOUR.user_config_directory(-1), "audiosr-bridge")
  local regions = dofile(ARDOUR.LuaAPI.build_filename(home, "regions.lua"))
  local title = "AudioSR: render with plugin"
  local failed = 0

  local function tracks()
    local found = {}
    for route in Editor:get_selection().tracks:routelist():iter() do
      local track = route:to_track()
      if not track:isnil() and not track:to_audio_track():isnil() then found[#found + 1] = track end
    end
    if #found == 0 then error("select audio tracks first", 0) end
    return found
  end

  local function range()
    local selection = Editor:get_selection()
    if not selection.time:empty() then
      return selection.time:start_sample(), selection.time:end_sample()
    end
    local first, last = math.huge, 0
    for region in selection.regions:regionlist():iter() do
      first = math.min(first, region:position():samples())
      last = math.max(last, (region:position() + region:length()):samples())
    end
    if last == 0 then error("select a range or regions first", 0) end
    return first, last
  end

  local function work()
    local first, last = range()
    for _, track in ipairs(tracks()) do
      local name = track:name() .. " (AudioSR)"
      local region, missed = regions.bounced(Session, track, first, last, name)
      failed = failed + missed
      local channels = region:to_audioregion():n_channels()
      for new in Session:new_audio_track(channels, channels, nil, 1, name,
        ARDOUR.PresentationInfo.max_order, ARDOUR.TrackMode.Normal, true):iter() do
        new:to_track():playlist():add_region(
          region, Temporal.timepos_t(first), 1, false, 0, 0, false)
      end
    end
  end

  local ok, problem = pcall(work)
  if ok and failed > 0 then
    ok, problem = false, string.format("%d chunks could not be extended and are silent or dry, as"
      .. " the plugin's failure policy says; the plugin shows why", failed)
  end
  if not ok then
    LuaDialog.Message(title, tostring(problem), LuaDialog.MessageType.Error,
      LuaDialog.ButtonType.Close):run()
  end
end end
