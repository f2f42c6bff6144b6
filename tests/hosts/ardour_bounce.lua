-- Bounces the first track with its plugins. From the environment: SESSION, FRAMES; MODE, of
-- rendering, or "action" for what our own action does.
local regions = dofile(os.getenv("REGIONS"))
local session = assert(load_session(os.getenv("SESSION"), "song"))
local frames, mode = tonumber(os.getenv("FRAMES")), os.getenv("MODE")
local track
for route in session:get_tracks():iter() do track = track or route:to_track() end
local processor, new = regions.plugin_of(session, track)
assert(not new, "the session came without the plugin")
local region, failed
if mode == "action" then
  region, failed = regions.bounced(session, track, 0, frames, "bounced")
else
  regions.set(processor, "Render mode", tonumber(mode))
  region = track:bounce_range(
    0, frames, ARDOUR.InterThreadInfo(), track:main_outs(), false, "bounced")
  failed = regions.value(processor, "Chunks failed")
end
assert(not region:isnil(), "nothing was bounced")
for channel = 0, region:to_audioregion():n_channels() - 1 do
  print("FILE", region:source(channel):to_filesource():path())
end
print("LENGTH", region:length():samples())
print("FAILED", failed)
close_session()
quit()
