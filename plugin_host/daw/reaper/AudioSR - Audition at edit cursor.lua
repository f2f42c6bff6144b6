-- Six seconds at the edit cursor with two seeds, as takes to choose from; the rest stays dry.
local folder = debug.getinfo(1, "S").source:match("^@(.*[/\\\\])") or "./"
local audiosr = dofile(folder .. "audiosr_bridge.lua")

local SECONDS, SEEDS = 6, 2

local items, why = audiosr.selected()
if not items then return audiosr.complain(why) end
if #items > 1 then return audiosr.complain("Select one item to audition.") end
local one = items[1]
local position = reaper.GetMediaItemInfo_Value(one.item, "D_POSITION")
local length = reaper.GetMediaItemInfo_Value(one.item, "D_LENGTH")
local rate = reaper.GetMediaItemTakeInfo_Value(one.take, "D_PLAYRATE")
local offset = reaper.GetMediaItemTakeInfo_Value(one.take, "D_STARTOFFS")
local from = math.max(position, math.min(reaper.GetCursorPosition(), position + length - SECONDS))
local to = math.min(from + SECONDS, position + length)

local wanted = audiosr.ask("AudioSR: audition")
if not wanted then return end
wanted.region = ("%.6f:%.6f"):format(
    offset + (from - position) * rate, offset + (to - position) * rate)

local requests = {}
for i = 0, SEEDS - 1 do
    local fields = {}
    for key, value in pairs(wanted) do fields[key] = value end
    fields.seed = tostring((tonumber(wanted.seed) or 0) + i)
    requests[#requests + 1] = audiosr.requests(items, fields, "audition")[1]
end
audiosr.run(requests, function(done)
    local made, complaints = audiosr.add_takes(done, "audition")
    if #complaints > 0 then audiosr.complain(table.concat(complaints, "\n\n")) end
    if #made > 0 then
        reaper.GetSet_LoopTimeRange2(0, true, false, from, to, false)
        reaper.SetEditCurPos2(0, from, true, true)
    end
end)
