-- A session with tracks that have the plugin. From the environment: SESSION, a folder; PLUGIN, its
-- id; FORMAT; CHANNELS, TRACKS, SEED, RATE.
local regions = dofile(os.getenv("REGIONS"))
local rate = tonumber(os.getenv("RATE"))
local backend = AudioEngine:set_backend("None (Dummy)", "audiosr-bridge", "")
backend:set_device_name("Silence")
backend:set_sample_rate(rate)
backend:set_buffer_size(1024)
local session = assert(create_session(os.getenv("SESSION"), "song", rate))
local channels, tracks = tonumber(os.getenv("CHANNELS")), tonumber(os.getenv("TRACKS"))
for route in session:new_audio_track(channels, 2, nil, tracks, "track", -1,
  ARDOUR.TrackMode.Normal, true):iter() do
  local processor = ARDOUR.LuaAPI.new_plugin(
    session, os.getenv("PLUGIN"), ARDOUR.PluginType[os.getenv("FORMAT")], "")
  assert(not processor:isnil(), "Ardour does not know the plugin")
  assert(route:add_processor_by_index(processor, 0, nil, true) == 0, "the track does not take it")
  regions.set(processor, "Seed", tonumber(os.getenv("SEED")))
  print("LATENCY", processor:to_plugininsert():signal_latency())
end
ARDOUR.LuaAPI.usleep(700000) -- another thread connects the tracks to the master bus
session:save_state("", false, false, false, false, false)
close_session()
print("MADE")
quit()
