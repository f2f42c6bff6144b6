-- What the AudioSR scripts for REAPER share. Lua 5.3 and 5.4; every call of REAPER's that is made
-- here is written down, with its contract, in tests/support/reaper.lua.
--
--     selected items ── one request a source file ──▶ audiosr-bridge daw run   (a process of its own)
--                              │                             │
--     new takes ◀── all at once, one undo step ◀── poll ◀── log, a line a fact
--
-- REAPER stays usable meanwhile: the scripts look at the logs from `reaper.defer`.

local M = {}

local SECTION = "AudioSR Bridge" -- of REAPER's extended state: what was asked for last
local EXT = "P_EXT:audiosr_bridge_from" -- of a take of ours: the GUID of the one it was made from
local DUPLICATE_TAKE = 40639 -- "Take: Duplicate active take", with its envelopes and effects
local BUILD_PEAKS = 40047 -- "Peaks: Build any missing peaks"
local SILENCE = 60 -- seconds without a word, after which a process is given up

-- ---- small things

function M.folder_of_scripts()
    local path = debug.getinfo(1, "S").source:match("^@(.*)$") or ""
    return path:match("^(.*[/\\])") or "./"
end

local function read(path)
    local file = io.open(path, "rb")
    if not file then return nil end
    local text = file:read("a")
    file:close()
    return text
end

local function write(path, text)
    local file, why = io.open(path, "wb")
    if not file then return nil, why end
    local ok = file:write(text)
    file:close()
    return ok and true
end

function M.complain(text)
    reaper.ShowMessageBox(text, "AudioSR", 0)
end

local function stem_of(path)
    local name = path:match("([^/\\]+)$") or path
    return name:match("^(.+)%.[^.]*$") or name, name:match("(%.[^.]*)$") or ".wav"
end

-- Where `audiosr-bridge` is: `audiosr-bridge daw install reaper` wrote it beside the scripts.
local function program()
    local text = read(M.folder_of_scripts() .. "program.txt")
    local path = text and text:match("^[^\r\n]+")
    if not path then
        return nil, "program.txt is missing beside the AudioSR scripts;\n"
            .. "run: audiosr-bridge daw install reaper"
    end
    return path
end

-- ---- what is selected

-- The source file of a take; nil and a sentence where it has none that can be extended.
local function source_of(take)
    local source = reaper.GetMediaItemTake_Source(take)
    local kind = source and reaper.GetMediaSourceType(source) or ""
    local path = source and reaper.GetMediaSourceFileName(source) or ""
    if kind == "SECTION" then
        return nil, "is a section or reversed: glue the item first"
    elseif reaper.TakeIsMIDI(take) or path == "" or not reaper.file_exists(path) then
        return nil, "is no sound file"
    end
    return path
end

-- Items with the take to work on: { item, take, name, path }; nothing where one cannot be done.
function M.selected()
    local found = {}
    for i = 0, reaper.CountSelectedMediaItems(0) - 1 do
        local item = reaper.GetSelectedMediaItem(0, i)
        local take = reaper.GetActiveTake(item)
        if take then
            local _, from = reaper.GetSetMediaItemTakeInfo_String(take, EXT, "", false)
            take = from ~= "" and M.take_of(item, from) or take -- from the original, not on top
            local _, name = reaper.GetSetMediaItemTakeInfo_String(take, "P_NAME", "", false)
            local path, why = source_of(take)
            if not path then return nil, ("%q %s."):format(name, why) end
            found[#found + 1] = { item = item, take = take, name = name, path = path }
        end
    end
    if #found == 0 then return nil, "Select one item or more with a sound in it first." end
    return found
end

function M.take_of(item, guid)
    for i = 0, reaper.CountTakes(item) - 1 do
        local take = reaper.GetTake(item, i)
        local _, its = reaper.GetSetMediaItemTakeInfo_String(take, "GUID", "", false)
        if its == guid then return take end
    end
    return nil
end

-- ---- what is wanted

-- Asks for settings, remembers them; nil where the user cancels.
function M.ask(title, more_names, more_values)
    local names = { "Preset (empty: none)", "Seed", "Mix (0 to 1)", "Level (dB)" }
    local keys = { "preset", "seed", "mix", "gain_hf_db" }
    local values = { "", "0", "1", "0" }
    for i, key in ipairs(keys) do
        local last = reaper.GetExtState(SECTION, key)
        if last ~= "" then values[i] = last end
    end
    for i, name in ipairs(more_names or {}) do
        names[#names + 1], values[#values + 1] = name, more_values[i]
    end
    -- an own separator, for a preset may have a comma in its name
    local captions = table.concat(names, ",") .. ",separator=|,extrawidth=160"
    local ok, text = reaper.GetUserInputs(title, #names, captions, table.concat(values, "|"))
    if not ok then return nil end
    local given = {}
    for one in (text .. "|"):gmatch("(.-)|") do given[#given + 1] = one:match("^%s*(.-)%s*$") end
    local wanted = {}
    for i, key in ipairs(keys) do
        wanted[key] = given[i] or ""
        reaper.SetExtState(SECTION, key, wanted[key], true)
    end
    local more = {}
    for i = #keys + 1, #names do more[#more + 1] = given[i] or "" end
    return wanted, more
end

-- ---- the processes

-- The folder for new files: beside the project's recordings.
local function folder_for_results()
    local folder = reaper.GetProjectPath("") .. "/AudioSR"
    reaper.RecursiveCreateDirectory(folder, 0)
    return folder
end

local function free_name(path)
    local stem, extension = path:match("^(.*)(%.[^./\\]*)$")
    local one, count = path, 2
    while reaper.file_exists(one) do
        one, count = ("%s (%d)%s"):format(stem, count, extension), count + 1
    end
    return one
end

-- One request for each different file of these items; `wanted` goes to every one.
function M.requests(items, wanted, word)
    local by_path, list = {}, {}
    local folder = folder_for_results()
    for _, one in ipairs(items) do
        local request = by_path[one.path]
        if not request then
            local stem, extension = stem_of(one.path)
            local target = ("%s/%s %s s%s%s"):format(folder, stem, word, wanted.seed, extension)
            request = { source = one.path, target = target, items = {}, fields = wanted }
            by_path[one.path], list[#list + 1] = request, request
        end
        request.items[#request.items + 1] = one
    end
    return list
end

local function start(request, number)
    local path, why = program()
    if not path then return nil, why end
    request.target = free_name(request.target)
    request.file = ("%s/.request-%d-%d"):format(folder_for_results(), os.time(), number)
    local lines = { "source=" .. request.source, "target=" .. request.target }
    for key, value in pairs(request.fields) do
        if value ~= "" then lines[#lines + 1] = key .. "=" .. value end
    end
    for _, line in ipairs(lines) do
        if line:find("[\r\n]") then return nil, "a file name has a line break in it" end
    end
    local ok, reason = write(request.file, table.concat(lines, "\n") .. "\n")
    if not ok then return nil, "the request cannot be written: " .. tostring(reason) end
    local command = ('"%s" daw run "%s"'):format(path, request.file)
    if reaper.ExecProcess(command, -1) == nil then
        return nil, path .. " could not be started;\nrun: audiosr-bridge daw install reaper"
    end
    request.heard_at, request.progress = reaper.time_precise(), 0
    return true
end

local function poll(request)
    local text = read(request.file .. ".log") or ""
    if #text > (request.read or 0) then
        request.read, request.heard_at = #text, reaper.time_precise()
    end
    for word, rest in text:gmatch("(%w+) ([^\r\n]*)\r?\n") do
        if word == "progress" then
            request.progress = tonumber(rest) or request.progress
        elseif word == "note" then
            request.note = rest
        elseif word == "model" then
            request.model = rest
        elseif word == "done" then
            request.result = rest
        elseif word == "failed" then
            request.error = rest
        end
    end
    local silent = reaper.time_precise() - request.heard_at
    if not request.result and not request.error and silent > SILENCE then
        request.error = ("nothing was heard for %d s"):format(SILENCE)
    end
    return request.result or request.error
end

local function tidy(request)
    if not request.file then return end
    os.remove(request.file)
    os.remove(request.file .. ".log")
    os.remove(request.file .. ".cancel")
end

local function progress_window(text, fraction)
    gfx.set(0.2, 0.2, 0.2, 1)
    gfx.rect(0, 0, gfx.w, gfx.h, 1)
    gfx.set(0.35, 0.65, 0.9, 1)
    gfx.rect(16, 44, (gfx.w - 32) * fraction, 14, 1)
    gfx.set(1, 1, 1, 1)
    gfx.rect(16, 44, gfx.w - 32, 14, 0)
    gfx.x, gfx.y = 16, 16
    gfx.drawstr(text)
    gfx.x, gfx.y = 16, 70
    gfx.drawstr("Escape, or close this window: cancel")
    gfx.update()
end

-- Runs the requests one after the other, then calls `finish(requests)`, or nobody if cancelled.
function M.run(requests, finish)
    local at = 0
    local is_open = gfx.init("AudioSR", 420, 100) and true

    local function cancel()
        for _, request in ipairs(requests) do
            local runs = request.file and not request.result and not request.error
            if runs then write(request.file .. ".cancel", "") end
        end
    end

    local function close()
        if is_open then gfx.quit() end
        is_open = false
    end

    local function next_one()
        at = at + 1
        local ok, why = start(requests[at], at)
        if not ok then requests[at].error = why end
    end

    local function look()
        local request = requests[at]
        if is_open then
            local key = gfx.getchar()
            if key == 27 or key == -1 then
                is_open = key ~= -1
                close()
                return cancel() -- the process sees it and removes what there is of the request
            end
            local name = stem_of(request.source)
            local text = ("%d of %d: %s, %d %%"):format(
                at, #requests, name, math.floor(100 * (request.progress or 0)))
            progress_window(text, (at - 1 + (request.progress or 0)) / #requests)
        end
        if request.error or poll(request) then
            tidy(request)
            if at == #requests then
                close()
                finish(requests)
                return
            end
            next_one()
        end
        reaper.defer(look)
    end

    reaper.atexit(function()
        close()
        cancel()
    end)
    next_one()
    reaper.defer(look)
end

-- ---- new takes

-- A copy of the take with its envelopes, effects and offsets, playing another file.
local function add_take(one, source)
    local before = {}
    for i = 0, reaper.CountTakes(one.item) - 1 do before[reaper.GetTake(one.item, i)] = true end
    reaper.SelectAllMediaItems(0, false)
    reaper.SetMediaItemSelected(one.item, true)
    reaper.SetActiveTake(one.take)
    reaper.Main_OnCommand(DUPLICATE_TAKE, 0)
    for i = 0, reaper.CountTakes(one.item) - 1 do
        local take = reaper.GetTake(one.item, i)
        if not before[take] then
            reaper.SetMediaItemTake_Source(take, source)
            return take
        end
    end
    return nil
end

-- The results as new takes of their items, in one undo step. Returns the takes, and complaints.
function M.add_takes(requests, word)
    local made, complaints, count = {}, {}, 0
    for _, request in ipairs(requests) do
        if request.error then
            complaints[#complaints + 1] = request.source .. ":\n" .. request.error
        end
    end
    reaper.Undo_BeginBlock2(0)
    reaper.PreventUIRefresh(1)
    local selected = {}
    for i = 0, reaper.CountSelectedMediaItems(0) - 1 do
        selected[#selected + 1] = reaper.GetSelectedMediaItem(0, i)
    end
    for _, request in ipairs(requests) do
        for _, one in ipairs(request.result and request.items or {}) do
            local there = reaper.ValidatePtr2(0, one.item, "MediaItem*")
                and reaper.ValidatePtr2(0, one.take, "MediaItem_Take*")
            local source = there and reaper.PCM_Source_CreateFromFile(request.result)
            local take = source and add_take(one, source)
            if take then
                local _, guid = reaper.GetSetMediaItemTakeInfo_String(one.take, "GUID", "", false)
                local name = ("%s [AudioSR%s %s, seed %s]"):format(
                    one.name, word == "" and "" or " " .. word, request.model or "lite",
                    request.fields.seed)
                reaper.GetSetMediaItemTakeInfo_String(take, "P_NAME", name, true)
                reaper.GetSetMediaItemTakeInfo_String(take, EXT, guid, true)
                reaper.SetActiveTake(take)
                reaper.UpdateItemInProject(one.item)
                made[#made + 1], count = take, count + 1
            else
                complaints[#complaints + 1] = one.name .. ": the item is gone; the file is\n"
                    .. request.result
            end
        end
    end
    reaper.SelectAllMediaItems(0, false)
    for _, item in ipairs(selected) do
        if reaper.ValidatePtr2(0, item, "MediaItem*") then
            reaper.SetMediaItemSelected(item, true)
        end
    end
    reaper.PreventUIRefresh(-1)
    reaper.Undo_EndBlock2(0, ("AudioSR: %d new take%s"):format(count, count == 1 and "" or "s"), -1)
    reaper.Main_OnCommand(BUILD_PEAKS, 0)
    reaper.UpdateArrange()
    return made, complaints
end

-- Ask, run, add takes, complain: what three of the scripts are.
function M.extend(title, word, fields)
    local items, why = M.selected()
    if not items then return M.complain(why) end
    local wanted = M.ask(title)
    if not wanted then return end
    for key, value in pairs(fields) do wanted[key] = value end
    M.run(M.requests(items, wanted, word == "" and "extended" or word), function(requests)
        local _, complaints = M.add_takes(requests, word)
        if #complaints > 0 then M.complain(table.concat(complaints, "\n\n")) end
    end)
end

-- The original where an extended take plays, and the newest extended one where the original does.
function M.toggle()
    reaper.Undo_BeginBlock2(0)
    for i = 0, reaper.CountSelectedMediaItems(0) - 1 do
        local item = reaper.GetSelectedMediaItem(0, i)
        local take = reaper.GetActiveTake(item)
        if take then
            local _, from = reaper.GetSetMediaItemTakeInfo_String(take, EXT, "", false)
            local _, guid = reaper.GetSetMediaItemTakeInfo_String(take, "GUID", "", false)
            local other = from ~= "" and M.take_of(item, from) or nil
            for k = 0, reaper.CountTakes(item) - 1 do
                local one = reaper.GetTake(item, k)
                local _, its = reaper.GetSetMediaItemTakeInfo_String(one, EXT, "", false)
                if from == "" and its == guid then other = one end
            end
            if other then
                reaper.SetActiveTake(other)
                reaper.UpdateItemInProject(item)
            end
        end
    end
    reaper.Undo_EndBlock2(0, "AudioSR: original or extended", -1)
    reaper.UpdateArrange()
end

return M
