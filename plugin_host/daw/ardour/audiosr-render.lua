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

-- Ardour keeps a copy of this text, so that what it does lies elsewhere and can be updated.
function factory() return function()
  local home = ARDOUR.LuaAPI.build_filename(ARDOUR.user_config_directory(-1), "audiosr-bridge")
  local file = assert(io.open(ARDOUR.LuaAPI.build_filename(home, "actions.lua")))
  local text = file:read("a")
  file:close()
  assert(load(text, "=actions.lua"))(home).render()
end end
