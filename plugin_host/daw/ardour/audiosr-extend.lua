ardour {
  ["type"] = "EditorAction",
  name = "AudioSR: extend selection in place",
  license = "MIT",
  author = "audiosr-bridge",
  description = [[
Restores the missing high band of the selected audio regions: each is replaced by a new one of the
same place and length, with its gain, fades and envelope. One undo brings the originals back.]],
}

-- Ardour keeps a copy of this text, so that what it does lies elsewhere and can be updated.
function factory() return function()
  local home = ARDOUR.LuaAPI.build_filename(ARDOUR.user_config_directory(-1), "audiosr-bridge")
  local file = assert(io.open(ARDOUR.LuaAPI.build_filename(home, "actions.lua")))
  local text = file:read("a")
  file:close()
  assert(load(text, "=actions.lua"))(home).extend()
end end
