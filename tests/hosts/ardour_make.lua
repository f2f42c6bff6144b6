-- A session with tracks that have the plugin. From the environment: SESSION, a folder; RATE; TRACKS,
-- for each a line of name, format, the plugin's id, channels and seed.
local regions = dofile(os.getenv("REGIONS"))
local rate = tonumber(os.getenv("RATE"))
local backend = AudioEngine:set_backend("None (Dummy)", "audiosr-bridge", "")
backend:set_device_name("Silence")
backend:set_sample_rate(rate)
backend:set_buffer_size(1024)
local session = assert(create_session(os.getenv("SESSION"), "song", rate))
for name, format, plugin, channels, seed in
  os.getenv("TRACKS"):gmatch("(%S+) (%S+) (%S+) (%S+) (%S+)") do
  for route in session:new_audio_track(tonumber(channels), 2, nil, 1, name, -1,
    ARDOUR.TrackMode.Normal, true):iter() do
    local processor = ARDOUR.LuaAPI.new_plugin(session, plugin, ARDOUR.PluginType[format], "")
    assert(not processor:isnil(), "Ardour does not know the plugin")
    assert(route:add_processor_by_index(processor, 0, nil, true) == 0, "the track takes it not")
    regions.set(processor, "Seed", tonumber(seed))
    print("LATENCY", processor:to_plugininsert():signal_latency())
  end
end
ARDOUR.LuaAPI.usleep(700000) -- another thread connects the tracks to the master bus
session:save_state("", false, false, false, false, false)
close_session()
print("MADE")
quit()
