-- What the actions in Ardour's menu do: the part that needs its editor. Called with the folder that
-- this file lies in.

local home = ...
local actions = {}

-- The value of another file here. (Ardour has no `dofile` in its editor.)
local function value_of(name)
  local file = assert(io.open(ARDOUR.LuaAPI.build_filename(home, name)))
  local text = file:read("a")
  file:close()
  return assert(load(text, "=" .. name))()
end

local regions = value_of("regions.lua")

local function say(title, text, kind)
  LuaDialog.Message(title, text, LuaDialog.MessageType[kind or "Error"],
    LuaDialog.ButtonType.Close):run()
end

local function selected_regions()
  local found = {}
  for region in Editor:get_selection().regions:regionlist():iter() do
    if not region:to_audioregion():isnil() then
      found[#found + 1] = { old = region, playlist = regions.track_of(Session, region):playlist() }
    end
  end
  if #found == 0 then error("select audio regions first", 0) end
  return found
end

-- The selected audio tracks; where none is, those of the selected regions.
local function selected_tracks()
  local found = {}
  for route in Editor:get_selection().tracks:routelist():iter() do
    local track = route:to_track()
    if not track:isnil() and not track:to_audio_track():isnil() then found[#found + 1] = track end
  end
  if #found > 0 then return found end
  local seen = {}
  for _, one in ipairs(selected_regions()) do
    local track = regions.track_of(Session, one.old)
    if not seen[track:name()] then found[#found + 1] = track end
    seen[track:name()] = true
  end
  return found
end

-- First and last sample of the selected range, else of the selected regions.
local function selected_range()
  local selection = Editor:get_selection()
  if selection.time:length():samples() > 0 then
    return selection.time:start_sample(), selection.time:end_sample()
  end
  local first, last = math.huge, 0
  for region in selection.regions:regionlist():iter() do
    first = math.min(first, region:position():samples())
    last = math.max(last, region:position():samples() + region:length():samples())
  end
  if last == 0 then error("select a range or regions first", 0) end
  return first, last
end

-- Ardour imports into its list of regions; what goes on a track is a copy, as by dragging.
local function import(path)
  local files = C.StringVector()
  files:push_back(path)
  local before = regions.known()
  Editor:do_import(files, Editing.ImportDistinctFiles, Editing.ImportAsRegion,
    ARDOUR.SrcQuality.SrcBest, ARDOUR.MidiTrackNameSource.SMFTrackName,
    ARDOUR.MidiTempoMapDisposition.SMFTempoIgnore, Temporal.timepos_t(0), ARDOUR.PluginInfo(),
    ARDOUR.Track(), false)
  return ARDOUR.RegionFactory.clone_region(regions.imported(before), true, false)
end

local function extend_all(title, folder, window)
  local command = value_of("command.lua")
  local found = selected_regions()
  local full = {}
  for i, one in ipairs(found) do
    local function tick(fraction)
      return window:progress((i - 1 + fraction) / #found,
        string.format("%s (%d of %d)", one.old:name(), i, #found))
    end
    tick(0)
    one.path, one.name = regions.extended(one.old, Session:nominal_sample_rate(), command,
      ARDOUR.LuaAPI.build_filename(folder, tostring(i)), tick)
    if not one.path then full[#full + 1] = one.old:name() end
  end
  local ready = {}
  for _, one in ipairs(found) do
    if one.path then
      one.new = import(one.path)
      if one.new:length():samples() ~= one.old:length():samples() then
        error("the result of " .. one.old:name() .. " has another length", 0)
      end
      one.new:set_name(one.name)
      regions.dress(one.new, one.old, regions.fades(Session, one.old))
      ready[#ready + 1] = one
    end
  end
  regions.replace(Session, title, ready)
  return full
end

-- "AudioSR: extend selection in place"
function actions.extend()
  local title = "AudioSR: extend selection in place"
  local folder = ARDOUR.LuaAPI.build_filename(
    Session:path(), string.format("audiosr-bridge-%d", ARDOUR.LuaAPI.monotonic_time()))
  local window = LuaDialog.ProgressWindow(title, true)
  local ok, result = pcall(extend_all, title, folder, window)
  window:done()
  regions.remove_folder(folder)
  if not ok and result ~= regions.INTERRUPTED then
    say(title, "Nothing was changed: " .. tostring(result))
  elseif ok and #result > 0 then
    say(title, "Nothing is missing in, and nothing was changed of: " .. table.concat(result, ", "),
      "Info")
  end
end

local function render_all()
  local first, last = selected_range()
  local failed = 0
  for _, track in ipairs(selected_tracks()) do
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
  if failed > 0 then
    error(failed .. " chunks could not be extended and are silent or dry, as the plugin's failure"
      .. " policy says; the plugin shows why", 0)
  end
end

-- "AudioSR: render with plugin"
function actions.render()
  local ok, problem = pcall(render_all)
  if not ok then say("AudioSR: render with plugin", tostring(problem)) end
end

return actions
