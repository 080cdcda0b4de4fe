package corefile

// place is where the names of a clusterset are, or are to be, served.
type place struct {
	kubernetes directive
	cache      *directive // of the same server block; nil where it caches nothing of the zone
}

// find returns the place for zone in src: the one kubernetes plugin of a server
// block that questions for zone reach.
func find(src, zone string) (place, error) {
	servers, err := parse(src)
	if err != nil {
		return place{}, err
	}
	var found *server
	for i := range servers {
		s := &servers[i]
		if s.isSnippet() || !s.serves(zone) {
			continue
		}
		if len(s.all("kubernetes")) == 0 {
			for _, key := range s.keys {
				if keyZone(key.text) == normal(zone) {
					return place{}, unusual(key.line, "a block of its own serves %s without the kubernetes plugin", zone)
				}
			}
			continue
		}
		if found != nil {
			return place{}, unusual(s.keys[0].line, "more than one server block has the kubernetes plugin and would serve %s", zone)
		}
		found = s
	}
	if found == nil {
		return place{}, unusual(0, "no server block that would serve %s has the kubernetes plugin", zone)
	}
	return found.place(zone)
}

func (s *server) place(zone string) (place, error) {
	plugins := s.all("kubernetes")
	k := plugins[0]
	switch {
	case len(plugins) > 1:
		return place{}, unusual(plugins[1].name.line, "the kubernetes plugin is there twice")
	case len(k.args) == 0:
		return place{}, unusual(k.name.line, "the kubernetes plugin names no zone")
	case primary(k) < 0:
		return place{}, unusual(k.name.line, "the kubernetes plugin names no zone but reverse ones")
	}
	if options := k.all("multicluster"); len(options) > 1 || len(options) == 1 && len(options[0].args) == 0 {
		return place{}, unusual(options[0].name.line, "the option multicluster is there twice, or names no zone")
	}
	p := place{kubernetes: k}
	caches := s.all("cache")
	if len(caches) == 1 && caching(caches[0], zone) {
		p.cache = &caches[0]
	}
	return p, nil
}

// primary is the position of the plugin's first zone that is not a reverse one,
// which CoreDNS uses for what has but one; -1 where there is none.
func primary(k directive) int {
	for i, t := range k.args {
		if !isReverse(t.text) {
			return i
		}
	}
	return -1
}

// caching reports whether a cache directive, `cache [TTL] [ZONES...]`, caches zone.
func caching(cache directive, zone string) bool {
	zones := cache.args
	if len(zones) > 0 && isNumber(zones[0].text) {
		zones = zones[1:]
	}
	return len(zones) == 0 || covers(zones, zone)
}

func isNumber(s string) bool {
	for _, r := range s {
		if r < '0' || r > '9' {
			return false
		}
	}
	return s != ""
}

// disabled returns the directive by which cache leaves answers of that kind
// (success or denial) alone.
func disabled(cache *directive, kind string) (directive, bool) {
	if cache == nil {
		return directive{}, false
	}
	for _, d := range cache.all("disable") {
		if len(d.args) > 0 && d.args[0].is(kind) {
			return d, true
		}
	}
	return directive{}, false
}

// Reloads reports whether CoreDNS takes up a changed src by itself.
func Reloads(src string) bool {
	servers, err := parse(src)
	if err != nil {
		return false
	}
	for i := range servers {
		if len(servers[i].all("reload")) > 0 && !servers[i].isSnippet() {
			return true
		}
	}
	return false
}
