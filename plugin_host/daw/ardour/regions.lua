-- What both actions do with regions and tracks. Works in Ardour's editor and, but for the import,
-- in ardour7-lua, which has neither Editor nor LuaDialog.
--
--     region ── write_wav ──▶ in.wav ── run ──▶ out.wav ── import ──▶ new region
--        └────────────────── dress, replace: one step to undo ◀──────────┘

local regions = {}

regions.INTERRUPTED = "interrupted"

local BLOCK = 8192 -- samples read at once
local POLL_MICROSECONDS = 50000
local SUPERCLOCK = 282240000 -- Ardour's ticks a second

-- The samples of a region as they are in its file, without its gain and fades, as 32-bit float.
function regions.write_wav(path, readable, sample_rate)
  local length, channels = readable:readable_length(), readable:n_channels()
  local bytes = length * channels * 4
  if bytes > 0xF0000000 then
    error("the region is longer than a WAV file can be; split it first", 0)
  end
  local file = assert(io.open(path, "wb"))
  file:write("RIFF", string.pack("<I4", 36 + bytes), "WAVEfmt ",
    string.pack("<I4I2I2I4I4I2I2", 16, 3, channels, sample_rate, sample_rate * channels * 4,
      channels * 4, 32), "data", string.pack("<I4", bytes))
  local memory = ARDOUR.DSP.DspShm(BLOCK)
  local at = 0
  while at < length do
    local count = math.min(BLOCK, length - at)
    local frames = {}
    for channel = 0, channels - 1 do
      if readable:read(memory:to_float(0), at, count, channel) ~= count then
        file:close()
        error("the audio of the region cannot be read; is its file still there?", 0)
      end
      for i, x in ipairs(memory:to_float(0):get_table(count)) do
        frames[(i - 1) * channels + channel + 1] = x
      end
    end
    file:write(string.pack("<" .. string.rep("f", #frames), table.unpack(frames)))
    at = at + count
  end
  assert(file:close())
end

local function quoted(word)
  return "'" .. string.gsub(word, "'", "'\\''") .. "'"
end

local function read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read("a")
  file:close()
  return text
end

-- Runs a program and waits for it; an error is the last thing it said.
--   folder: of this call alone; what the program says is kept there
--   tick: called some times a second; true ends the program
function regions.run(words, folder, tick)
  local path = function(name) return folder .. "/" .. name end
  local command = {}
  for i, word in ipairs(words) do command[i] = quoted(word) end
  local script = assert(io.open(path("job.sh"), "w"))
  script:write("cd ", quoted(folder), "\n(\n", table.concat(command, " "),
    " >/dev/null 2>stderr </dev/null &\necho $! >pid\nwait $!\necho $? >code.new\n",
    "mv code.new code\n) >/dev/null 2>&1 </dev/null &\n")
  script:close()
  os.execute("env -u LD_LIBRARY_PATH -u GTK_PATH sh " .. quoted(path("job.sh")))
  local asked = false
  while not read(path("code")) do
    if tick() and not asked then
      asked = true
      os.execute("kill -TERM " .. tonumber(read(path("pid"))))
    end
    ARDOUR.LuaAPI.usleep(POLL_MICROSECONDS)
  end
  if asked then error(regions.INTERRUPTED, 0) end
  if tonumber(read(path("code"))) ~= 0 then
    local said = read(path("stderr"))
    error(said:match("error: ([^\n]*)") or said:match("([^\n]+)\n*$") or "no reason given", 0)
  end
end

-- Extends a region's samples, by a request as plugin_host/daw/requests.py has it. Returns the file
-- with the result, and its name; nil where nothing is missing. The folder is made.
--   tick: told the progress, 0 to 1, some times a second; true ends it
function regions.extended(region, sample_rate, command, folder, tick)
  os.execute("mkdir -p " .. quoted(folder))
  local path = function(name) return folder .. "/" .. name end
  regions.write_wav(path("in.wav"), region:to_audioregion():to_readable(), sample_rate)
  local request = assert(io.open(path("request"), "w"))
  request:write("source=", path("in.wav"), "\ntarget=", path("out.wav"), "\n")
  request:close()
  local words = { table.unpack(command) }
  for _, word in ipairs { "daw", "run", path("request") } do words[#words + 1] = word end
  regions.run(words, folder, function()
    local said = read(path("request.log")) or ""
    return tick(tonumber(said:match(".*progress ([%d.]+)")) or 0)
  end)
  local said = "\n" .. read(path("request.log"))
  if said:match("\nadded no") then return nil end
  local name = string.format("%s (%s, seed %s)", region:name(), said:match("\nmodel ([^\n]+)"),
    said:match("\nseed (%d+)"))
  local named = path(string.gsub(name, '[/\\:*?"<>|]', "_") .. ".wav")
  assert(os.rename(path("out.wav"), named))
  return named, name
end

function regions.remove_folder(folder)
  os.execute("rm -rf " .. quoted(folder))
end

-- The shape and length of a region's fades, which Lua can set but not get: from a snapshot.
function regions.fades(session, region)
  local snapshot = "audiosr-bridge-fades"
  session:save_state(snapshot, false, false, false, false, false)
  local path = ARDOUR.LuaAPI.build_filename(session:path(), snapshot .. ".ardour")
  local text = read(path) or ""
  os.remove(path)
  os.remove(ARDOUR.LuaAPI.build_filename(session:path(), snapshot .. ".history"))
  local id = region:to_stateful():id():to_s()
  local head, body = text:match("<Region ([^>]- id=\"" .. id .. "\"[^>]*)>(.-)</Region>")
  if not head or head:sub(-1) == "/" then return {} end
  local rate = session:sample_rate()
  return {
    fade_in = regions.fade_of(body:match("<FadeIn>(.-)</FadeIn>"), rate),
    fade_out = regions.fade_of(body:match("<FadeOut>(.-)</FadeOut>"), rate),
  }
end

-- Each shape goes through a level of its own in its middle.
local MIDDLES = {
  FadeFast = 0.032, FadeSlow = 0.097, FadeLinear = 0.5, FadeSymmetric = 0.6,
  FadeConstantPower = 0.707,
}

-- {shape, length in samples} of a fade in the session's file; nil for the default one.
function regions.fade_of(element, sample_rate)
  local events = element and element:match("<events>(.-)</events>")
  if not events then return nil end
  local points = {}
  for at, level in events:gmatch("a(%d+) ([%d.e+-]+)") do
    points[#points + 1] = { tonumber(at), tonumber(level) }
  end
  local last = points[#points][1]
  local middle = 0.5
  for i = 2, #points - 1 do
    local nearest = math.abs(points[i][1] - last / 2)
    if nearest <= last / 62 then middle = points[i][2] end
  end
  local shape, distance = nil, math.huge
  for name, level in pairs(MIDDLES) do
    if math.abs(level - middle) < distance then
      shape, distance = name, math.abs(level - middle)
    end
  end
  return { shape = shape, length = math.floor(last * sample_rate / SUPERCLOCK + 0.5) }
end

-- Gives a new region the gain, fades, envelope and state of the old one.
function regions.dress(new, old, fades)
  local to, from = new:to_audioregion(), old:to_audioregion()
  to:set_scale_amplitude(from:scale_amplitude())
  if fades.fade_in then
    to:set_fade_in_shape(ARDOUR.FadeShape[fades.fade_in.shape])
    to:set_fade_in_length(fades.fade_in.length)
  end
  if fades.fade_out then
    to:set_fade_out_shape(ARDOUR.FadeShape[fades.fade_out.shape])
    to:set_fade_out_length(fades.fade_out.length)
  end
  to:set_fade_in_active(from:fade_in_active())
  to:set_fade_out_active(from:fade_out_active())
  local points = to:envelope()
  points:clear_list()
  for point in from:envelope():list():events():iter() do
    points:add(point.when, point.value, false, true)
  end
  to:set_envelope_active(from:envelope_active())
  new:set_muted(old:muted())
  new:set_opaque(old:opaque())
end

-- Puts new regions in the place of old ones, in one step that can be undone.
--   pairs_of: list of {playlist, old, new}
function regions.replace(session, title, pairs_of)
  session:begin_reversible_command(title)
  for _, one in ipairs(pairs_of) do
    local layer, locked = one.old:layer(), one.old:locked()
    one.playlist:to_stateful():clear_changes()
    one.old:set_locked(false)
    one.playlist:remove_region(one.old)
    one.playlist:add_region(one.new, one.old:position(), 1, false, 0, 0, false)
    for _ = 1, one.playlist:n_regions() do
      if one.new:layer() <= layer then break end
      one.new:lower()
    end
    one.new:set_locked(locked)
    session:add_stateful_diff_command(one.playlist:to_statefuldestructible())
  end
  if not session:abort_empty_reversible_command() then
    session:commit_reversible_command(nil)
  end
end

function regions.track_of(session, region)
  local id = region:to_stateful():id()
  for route in session:get_tracks():iter() do
    local track = route:to_track()
    if not track:isnil() and not track:playlist():region_by_id(id):isnil() then return track end
  end
  error("the region " .. region:name() .. " is on no track", 0)
end

-- Ids of all regions that the session knows.
function regions.known()
  local ids = {}
  for id in pairs(ARDOUR.RegionFactory.regions():table()) do ids[id:to_s()] = true end
  return ids
end

-- The whole-file region that came with an import.
function regions.imported(before)
  for id, region in pairs(ARDOUR.RegionFactory.regions():table()) do
    if not before[id:to_s()] and region:whole_file() then return region end
  end
  error("Ardour did not import the result", 0)
end

-- The plugin on a track, put there as the first where it is not.
function regions.plugin_of(session, track)
  for i = 0, 63 do
    local processor = track:nth_plugin(i)
    if processor:isnil() then break end
    local name = processor:display_name()
    if name:match("^AudioSR Bridge") and not name:match("Live") then return processor, false end
  end
  local kind = track:n_inputs():n_audio() == 1 and "mono" or "stereo"
  local processor = ARDOUR.LuaAPI.new_plugin(
    session, "urn:audiosr-bridge:bridge#" .. kind, ARDOUR.PluginType.LV2, "")
  if processor:isnil() then
    error("the plugin AudioSR Bridge is not there; run `audiosr-bridge plugin install`", 0)
  end
  if track:add_processor_by_index(processor, 0, nil, true) ~= 0 then
    error("AudioSR Bridge takes no track like " .. track:name() .. "; mono and stereo ones", 0)
  end
  return processor, true
end

-- Ardour's number of a parameter or output, by its name.
local function number_of(processor, label)
  local plugin = processor:to_plugininsert():plugin(0)
  for number = 0, plugin:parameter_count() - 1 do
    local id, there = plugin:nth_parameter(number, false)
    if there and plugin:parameter_label(id) == label then return number end
  end
  error("this AudioSR Bridge has no parameter " .. label .. "; install the plugin again", 0)
end

-- The value that a parameter, or an output, has now.
function regions.value(processor, label)
  return (ARDOUR.LuaAPI.get_processor_param(processor, number_of(processor, label), false))
end

function regions.set(processor, label, value)
  local number = number_of(processor, label)
  if not ARDOUR.LuaAPI.set_processor_param(processor, number, value) then
    error("the parameter " .. label .. " cannot be set", 0)
  end
end

local WAIT = 1 -- of Render mode

-- Bounces a range of a track with all its plugins, while ours waits for the daemon.
-- Returns the region, and how many chunks could not be extended.
function regions.bounced(session, track, first, last, name)
  local processor = regions.plugin_of(session, track)
  local mode = regions.value(processor, "Render mode")
  regions.set(processor, "Render mode", WAIT)
  local failed = regions.value(processor, "Chunks failed")
  -- Ardour 7.3 shifts and lengthens what is shorter than the latency, so that we take more.
  local until_ = math.max(last, first + track:signal_latency())
  local region = track:bounce_range(
    first, until_, ARDOUR.InterThreadInfo(), track:main_outs(), false, name)
  failed = regions.value(processor, "Chunks failed") - failed
  regions.set(processor, "Render mode", mode)
  if region:isnil() then error("Ardour could not bounce " .. track:name(), 0) end
  if until_ > last then
    region = ARDOUR.RegionFactory.clone_region(region, true, false)
    region:set_length(Temporal.timecnt_t(last - first))
  end
  return region, math.max(0, failed)
end

return regions
