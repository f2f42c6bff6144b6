-- Switches the selected items between the original take and the extended one.
local folder = debug.getinfo(1, "S").source:match("^@(.*[/\\\\])") or "./"
local audiosr = dofile(folder .. "audiosr_bridge.lua")

audiosr.toggle()
