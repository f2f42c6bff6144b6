ardour {
  ["type"] = "EditorAction",
  name = "AudioSR: extend selection in place",
  license = "MIT",
  author = "audiosr-bridge",
  description = [[
Restores the missing high band of the selected audio regions: each is replaced by a new one of the
same place and length, with its gain, fades and envelope. One undo brings the originals back.
Where no region is selected, the selected range of the selected tracks is taken.]],
}

function factory() return function()
  local home = ARDOUR.LuaAPI.build_filename(ARDOUR.user_config_directory(-1), "audiosr-bridge")
  local regions = dofile(ARDOUR.LuaAPI.build_filename(home, "regions.lua"))
  local command = dofile(ARDOUR.LuaAPI.build_filename(home, "command.lua"))
  local title = "AudioSR: extend selection in place"
  local folder = ARDOUR.LuaAPI.build_filename(
    Session:path(), string.format("audiosr-bridge-%d", ARDOUR.LuaAPI.monotonic_time()))
  local window = LuaDialog.ProgressWindow(title, true)

  local function selected()
    local found, selection = {}, Editor:get_selection()
    for region in selection.regions:regionlist():iter() do
      if not region:to_audioregion():isnil() then
        found[#found + 1] = { old = region, playlist = regions.track_of(Session, region):playlist() }
      end
    end
    if #found == 0 then error("select audio regions first", 0) end
    return found
  end

  -- Ardour imports into a region list; what goes on the track is a copy, as by dragging.
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

  local function work()
    local found = selected()
    for i, one in ipairs(found) do
      local began = os.time()
      local text = string.format("%s (%d of %d)", one.old:name(), i, #found)
      local function tick()
        return window:progress((i - 0.5) / #found,
          string.format("%s, %d s", text, os.time() - began))
      end
      one.folder = ARDOUR.LuaAPI.build_filename(folder, tostring(i))
      os.execute("mkdir -p '" .. one.folder:gsub("'", "'\\''") .. "'")
      one.path, one.name =
        regions.extended(one.old, Session:nominal_sample_rate(), command, one.folder, tick)
    end
    for _, one in ipairs(found) do
      one.new = import(one.path)
      if one.new:length():samples() ~= one.old:length():samples() then
        error("the result of " .. one.old:name() .. " has another length", 0)
      end
      one.new:set_name(one.name)
      regions.dress(one.new, one.old, regions.fades(Session, one.old))
    end
    regions.replace(Session, title, found)
  end

  local ok, problem = pcall(work)
  window:done()
  os.execute("rm -rf '" .. folder:gsub("'", "'\\''") .. "'")
  if not ok and problem ~= "interrupted" then
    LuaDialog.Message(title, "Nothing was changed: " .. tostring(problem),
      LuaDialog.MessageType.Error, LuaDialog.ButtonType.Close):run()
  end
end end
