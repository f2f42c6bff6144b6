-- What "extend selection in place" does, but for the import: the new region's audio is the
-- original's. From the environment: SESSION; COMMAND, a file of Lua that returns the command; OUT,
-- a folder.
local regions = dofile(os.getenv("REGIONS"))
local session = assert(load_session(os.getenv("SESSION"), "song"))
local track, old
for route in session:get_tracks():iter() do track = track or route:to_track() end
for region in track:playlist():region_list():iter() do old = region end
local audio = old:to_audioregion()
audio:set_scale_amplitude(0.25)
audio:set_fade_in_shape(ARDOUR.FadeShape[os.getenv("FADE")])
audio:set_fade_in_length(4800)
audio:set_fade_in_active(true)
audio:set_fade_out_shape(ARDOUR.FadeShape[os.getenv("FADE")])
audio:set_fade_out_length(2400)
audio:set_fade_out_active(true)
audio:envelope():add(Temporal.timepos_t(24000), 0.5, true, true)
audio:set_envelope_active(true)
local ticks = 0
local path, name = regions.extended(old, session:sample_rate(), dofile(os.getenv("COMMAND")),
  os.getenv("OUT"), function() ticks = ticks + 1 return false end)
print("EXTENDED", path)
print("NAMED", name)
print("TICKS", ticks)
local before = regions.known()
track:bounce_range(0, old:length():samples(), ARDOUR.InterThreadInfo(), ARDOUR.LuaAPI.nil_proc(),
  false, "imported")
local new = ARDOUR.RegionFactory.clone_region(regions.imported(before), true, false)
new:set_name("replaced")
regions.dress(new, old, regions.fades(session, old))
session:save_state("before", false, false, false, false, false)
regions.replace(session, "extend", { { playlist = track:playlist(), old = old, new = new } })
session:save_state("after", false, false, false, false, false)
close_session()
quit()
