-- A stand-in for the calls of REAPER that our scripts make, with the contract of each as its own
-- documentation has it (ReaScript help, "REAPER API functions", v7.16, and its list of actions).
-- What is not here is not called: an unknown name is an error. No REAPER was at hand; this proves
-- the scripts against the contracts, and not against REAPER.

local Stand = { items = {}, boxes = {}, undo = {}, deferred = {}, ext = {}, now = 0, exits = {} }

local function take_of(source, name, guid)
    return { kind = "MediaItem_Take*", source = source, ext = {}, guid = guid,
        strings = { P_NAME = name }, values = { D_STARTOFFS = 0, D_PLAYRATE = 1 } }
end

local guids = 0
local function new_guid()
    guids = guids + 1
    return ("{00000000-0000-0000-0000-%012d}"):format(guids)
end

function Stand.source(path, kind) return { kind = "PCM_source*", path = path, type = kind or "WAVE" } end

function Stand.add_item(path, name, position, length, kind)
    local take = take_of(Stand.source(path, kind), name, new_guid())
    local item = { kind = "MediaItem*", takes = { take }, active = take, selected = true,
        values = { D_POSITION = position or 0, D_LENGTH = length or 1 } }
    Stand.items[#Stand.items + 1] = item
    return item, take
end

local depth = 0
local function changes() -- project changes belong into an undo block, else undo misses them
    assert(depth == 1, "a change outside Undo_BeginBlock2 .. Undo_EndBlock2")
end

local r = {}

-- integer CountSelectedMediaItems(ReaProject proj): 0 is the active project
function r.CountSelectedMediaItems(project)
    assert(project == 0)
    local count = 0
    for _, item in ipairs(Stand.items) do count = count + (item.selected and 1 or 0) end
    return count
end

-- MediaItem GetSelectedMediaItem(ReaProject proj, integer selitem): from 0; nil beyond the last
function r.GetSelectedMediaItem(project, index)
    assert(project == 0)
    for _, item in ipairs(Stand.items) do
        if item.selected then
            if index == 0 then return item end
            index = index - 1
        end
    end
    return nil
end

function r.SelectAllMediaItems(project, on)
    assert(project == 0 and type(on) == "boolean")
    for _, item in ipairs(Stand.items) do item.selected = on end
end

function r.SetMediaItemSelected(item, on) item.selected = on end

-- MediaItem_Take GetActiveTake(MediaItem item): nil for an empty item
function r.GetActiveTake(item) return item.active end

-- SetActiveTake(MediaItem_Take take): in its item
function r.SetActiveTake(take)
    changes()
    for _, item in ipairs(Stand.items) do
        for _, one in ipairs(item.takes) do
            if one == take then item.active = take return end
        end
    end
    error("no such take")
end

function r.CountTakes(item) return #item.takes end
function r.GetTake(item, index) return item.takes[index + 1] end -- from 0
function r.TakeIsMIDI(take) return take.source.type == "MIDI" end
function r.GetMediaItemTake_Source(take) return take.source end

-- "WAVE", "AIFF", "MIDI", ...; a section or a reversed sound is "SECTION", and has no file name
function r.GetMediaSourceType(source) return source.type end
function r.GetMediaSourceFileName(source) return source.type == "SECTION" and "" or source.path end

-- boolean SetMediaItemTake_Source(take, source): C++ owners must free the old one, scripts not
function r.SetMediaItemTake_Source(take, source)
    changes()
    assert(source.kind == "PCM_source*")
    take.source = source
    return true
end

-- PCM_source PCM_Source_CreateFromFile(string filename): nil where it is no media
function r.PCM_Source_CreateFromFile(path)
    local file = io.open(path, "rb")
    if not file then return nil end
    file:close()
    return Stand.source(path)
end

function r.GetMediaItemInfo_Value(item, name) return assert(item.values[name], name) end
function r.GetMediaItemTakeInfo_Value(take, name) return assert(take.values[name], name) end

-- boolean, string GetSetMediaItemTakeInfo_String(take, parmname, stringNeedBig, setNewValue)
-- P_NAME, GUID (here read only), P_EXT:xyz (kept with the project; "" where it was never set)
function r.GetSetMediaItemTakeInfo_String(take, name, text, set)
    if name == "GUID" then
        assert(not set)
        return true, take.guid
    elseif name == "P_NAME" then
        if set then changes() take.strings.P_NAME = text end
        return true, take.strings.P_NAME
    end
    local key = assert(name:match("^P_EXT:([%w_]+)$"), name)
    if set then changes() take.ext[key] = text end
    return take.ext[key] ~= nil, take.ext[key] or ""
end

-- boolean ValidatePtr2(proj, pointer, ctypename): false where it has been deleted
function r.ValidatePtr2(project, pointer, kind)
    assert(project == 0)
    for _, item in ipairs(Stand.items) do
        if item == pointer then return kind == "MediaItem*" end
        for _, take in ipairs(item.takes) do
            if take == pointer then return kind == "MediaItem_Take*" end
        end
    end
    return false
end

-- Main_OnCommand(command, flag): 40639 "Take: Duplicate active take" works on all selected items,
-- copies envelopes, effects, offsets and P_EXT, and puts the copy last in some versions and next
-- in others; 40047 builds missing peaks
function r.Main_OnCommand(command, flag)
    assert(flag == 0)
    if command == 40047 then return end
    assert(command == 40639, command)
    changes()
    for index, item in ipairs(Stand.items) do
        if item.selected then
            local copy = take_of(item.active.source, item.active.strings.P_NAME, new_guid())
            for name, value in pairs(item.active.values) do copy.values[name] = value end
            for name, value in pairs(item.active.ext) do copy.ext[name] = value end
            copy.effects = item.active.effects
            table.insert(item.takes, index % 2 == 0 and 1 or #item.takes + 1, copy)
            item.active = copy
        end
    end
end

-- Undo blocks nest, only the outermost counts; the flags -1 say: whatever changed
function r.Undo_BeginBlock2(project) assert(project == 0) depth = depth + 1 end
function r.Undo_EndBlock2(project, text, flags)
    assert(project == 0 and flags == -1 and depth > 0)
    depth = depth - 1
    Stand.undo[#Stand.undo + 1] = text
end

local refresh = 0
function r.PreventUIRefresh(count) refresh = refresh + count assert(refresh >= 0) end
function r.UpdateArrange() assert(refresh == 0) end
function r.UpdateItemInProject(item) assert(item.kind == "MediaItem*") end

-- ExecProcess(command line, timeout): -1 does not wait and does not end it; nil where it could not
-- be started, else the exit code, a line break and what it printed. PATH is not searched.
function r.ExecProcess(command, timeout)
    assert(timeout == -1, "would block the window")
    local program = assert(command:match('^"([^"]+)" '), "the program must be quoted, and absolute")
    assert(program:sub(1, 1) == "/")
    local file = io.open(program, "rb")
    if not file then return nil end
    file:close()
    Stand.started = (Stand.started or 0) + 1
    return os.execute(command .. " >/dev/null 2>&1 &") and "0\n" or nil
end

-- boolean, string GetUserInputs(title, num, captions_csv, retvals_csv): at most 16;
-- "separator=|" in the captions is for the values; "extrawidth=" in pixels
function r.GetUserInputs(title, count, captions, values)
    assert(type(title) == "string" and count <= 16)
    local names = {}
    for one in captions:gmatch("[^,]+") do
        if not one:find("^extrawidth=") and not one:find("^separator=") then names[#names + 1] = one end
    end
    assert(#names == count, captions)
    assert(captions:find("separator=|", 1, true))
    local given = Stand.answer
    if given == nil then return false, "" end
    return true, given == "" and values or given
end

-- GetExtState gives "" where nothing was set; SetExtState(section, key, value, persist)
function r.GetExtState(section, key) return Stand.ext[section .. "/" .. key] or "" end
function r.SetExtState(section, key, value, persist)
    assert(type(value) == "string" and persist == true)
    Stand.ext[section .. "/" .. key] = value
end

function r.ShowMessageBox(text, title, kind)
    assert(kind == 0 and title == "AudioSR")
    Stand.boxes[#Stand.boxes + 1] = text
    return 1
end

function r.GetProjectPath() return Stand.folder end
function r.RecursiveCreateDirectory(path, ignored) os.execute(("mkdir -p %q"):format(path)) return 1 end
function r.file_exists(path) local f = io.open(path, "rb") if f then f:close() end return f ~= nil end
function r.time_precise() return Stand.now end
function r.defer(f) assert(type(f) == "function") Stand.deferred[#Stand.deferred + 1] = f end
function r.atexit(f) Stand.exits[#Stand.exits + 1] = f end
function r.GetCursorPosition() return Stand.cursor or 0 end
-- SetEditCurPos2(proj, time, moveview, seekplay)
function r.SetEditCurPos2(project, time, move, seek)
    assert(project == 0 and type(move) == "boolean" and type(seek) == "boolean")
    Stand.cursor = time
end
-- GetSet_LoopTimeRange2(proj, isSet, isLoop, start, end, allowautoseek)
function r.GetSet_LoopTimeRange2(project, set, loop, from, to, seek)
    assert(project == 0 and set == true and loop == false and from < to and seek == false)
    Stand.range = { from, to }
end

reaper = setmetatable(r, { __index = function(_, name) error("REAPER has no " .. name, 2) end })

-- gfx.init opens a window; gfx.getchar gives 0 for no key, -1 where the window was closed, 27 for
-- Escape; gfx.update shows what was drawn
gfx = { w = 420, h = 100, x = 0, y = 0, open = false, texts = {} }
function gfx.init() gfx.open = true return 1 end
function gfx.quit() gfx.open = false end
function gfx.getchar()
    local key = Stand.key and Stand.key() or 0
    gfx.open = gfx.open and key ~= -1
    return key
end
function gfx.set() end
function gfx.rect() end
function gfx.drawstr(text) gfx.texts[#gfx.texts + 1] = text end
function gfx.update() assert(gfx.open) end

-- Runs a script as REAPER would: its body, then what it deferred, some thirty times a second.
function Stand.run(path, seconds)
    dofile(path)
    local rounds = 0
    while #Stand.deferred > 0 do
        local now = Stand.deferred
        Stand.deferred = {}
        for _, f in ipairs(now) do f() end
        os.execute("sleep 0.03")
        Stand.now, rounds = Stand.now + 0.03, rounds + 1
        assert(rounds * 0.03 < (seconds or 60), "the script never came to an end")
    end
    for _, f in ipairs(Stand.exits) do f() end
    Stand.exits = {}
    assert(depth == 0 and refresh == 0 and not gfx.open)
end

return Stand
