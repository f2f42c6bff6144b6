-- The selected items get a new take with only what would be added.
local folder = debug.getinfo(1, "S").source:match("^@(.*[/\\\\])") or "./"
local audiosr = dofile(folder .. "audiosr_bridge.lua")

audiosr.extend("AudioSR: only what is added", "delta", { delta = "yes" })
