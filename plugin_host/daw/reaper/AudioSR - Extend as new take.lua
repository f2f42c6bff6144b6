-- The selected items get a new take with the missing high band; the old take stays.
local folder = debug.getinfo(1, "S").source:match("^@(.*[/\\\\])") or "./"
local audiosr = dofile(folder .. "audiosr_bridge.lua")

audiosr.extend("AudioSR: extend as new take", "", {})
