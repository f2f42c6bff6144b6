-- Does with a session what it is told on standard input, a line each, and says END after each.
-- From the environment: SESSION, a folder.
--
--     bounce TRACK MODE SEED FRAMES   MODE of rendering, or "action" for what our own action does
--     play SECONDS TRACK:SEED...      in real time, from the song's beginning
--     extend TRACK FADE COMMAND OUT   what "extend selection in place" does, but for the import: the
--                                     new region's audio is the original's. COMMAND, a file of Lua
--                                     that returns the command; OUT, a folder
local regions = dofile(os.getenv("REGIONS"))
local session = assert(load_session(os.getenv("SESSION"), "song"))

local function track_of(name)
  local track = session:route_by_name(name):to_track()
  local processor, new = regions.plugin_of(session, track)
  assert(not new, "the session came without the plugin")
  return track, processor
end

local commands = {}

function commands.bounce(name, mode, seed, frames)
  local track, processor = track_of(name)
  regions.set(processor, "Seed", tonumber(seed))
  local region, failed
  if mode == "action" then
    region, failed = regions.bounced(session, track, 0, tonumber(frames), "bounced")
  else
    regions.set(processor, "Render mode", tonumber(mode))
    region = track:bounce_range(
      0, tonumber(frames), ARDOUR.InterThreadInfo(), track:main_outs(), false, "bounced")
    failed = regions.value(processor, "Chunks failed")
  end
  assert(not region:isnil(), "nothing was bounced")
  for channel = 0, region:to_audioregion():n_channels() - 1 do
    print("FILE", region:source(channel):to_filesource():path())
  end
  print("LENGTH", region:length():samples())
  print("FAILED", failed)
end

local function wait(seconds, there)
  while not there() and seconds > 0 do
    ARDOUR.LuaAPI.usleep(50000)
    seconds = seconds - 0.05
  end
end

-- How much a count has grown; it begins anew where Ardour activates the plugin again.
local function growth(now, before)
  return now < before and now or now - before
end

function commands.play(seconds, ...)
  local processors, wet, dry = {}, {}, {}
  for _, word in ipairs { ... } do
    local name, seed = word:match("(.*):(.*)")
    local _, processor = track_of(name)
    regions.set(processor, "Seed", tonumber(seed))
    processors[name] = processor
    wet[name] = regions.value(processor, "Chunks wet")
    dry[name] = regions.value(processor, "Chunks dry")
  end
  local by = ARDOUR.TransportRequestSource.TRS_UI
  session:request_roll(by)
  wait(2 * seconds + 20, function()
    return session:transport_sample() >= seconds * session:sample_rate()
  end)
  for name, processor in pairs(processors) do
    print(name, growth(regions.value(processor, "Chunks wet"), wet[name]),
      growth(regions.value(processor, "Chunks dry"), dry[name]))
  end
  session:request_stop(false, false, by)
  wait(10, function() -- while it fades out, it does not go anywhere
    session:request_locate(0, false, ARDOUR.LocateTransportDisposition.MustStop, by)
    return session:transport_sample() == 0
  end)
end

function commands.extend(name, fade, command, out)
  local track = track_of(name)
  local old
  for region in track:playlist():region_list():iter() do old = region end
  local audio = old:to_audioregion()
  audio:set_scale_amplitude(0.25)
  audio:set_fade_in_shape(ARDOUR.FadeShape[fade])
  audio:set_fade_in_length(4800)
  audio:set_fade_in_active(true)
  audio:set_fade_out_shape(ARDOUR.FadeShape[fade])
  audio:set_fade_out_length(2400)
  audio:set_fade_out_active(true)
  audio:envelope():add(Temporal.timepos_t(24000), 0.5, true, true)
  audio:set_envelope_active(true)
  old:set_name("old " .. name)
  local path, called = regions.extended(old, session:sample_rate(), dofile(command), out,
    function() return false end)
  print("EXTENDED", path)
  print("NAMED", called)
  local before = regions.known()
  track:bounce_range(0, old:length():samples(), ARDOUR.InterThreadInfo(),
    ARDOUR.LuaAPI.nil_proc(), false, "imported")
  local new = ARDOUR.RegionFactory.clone_region(regions.imported(before), true, false)
  new:set_name("new " .. name)
  regions.dress(new, old, regions.fades(session, old))
  session:save_state("before", false, false, false, false, false)
  regions.replace(session, "extend", { { playlist = track:playlist(), old = old, new = new } })
  session:save_state("after", false, false, false, false, false)
end

for line in io.lines() do
  local words = {}
  for word in line:gmatch("%S+") do words[#words + 1] = word end
  local done, said = pcall(commands[words[1]], table.unpack(words, 2))
  if not done then print("ERROR", said) end
  print("END")
  io.flush()
end
close_session()
quit()
