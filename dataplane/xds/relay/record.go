package relay

import (
	"maps"
	"slices"
	"strings"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/dataplane/xds"
)

// A record is what Envoy accepted. It is not safe for concurrent use.
type record struct {
	types    map[string]map[string]*discoveryv3.Resource
	refused  map[string]map[string]xds.Refusal
	answered map[string]bool
	// subscribed holds the names that Envoy waits for or has, by type.
	subscribed map[string]map[string]bool
}

func newRecord() *record {
	return &record{
		types: map[string]map[string]*discoveryv3.Resource{}, refused: map[string]map[string]xds.Refusal{},
		answered: map[string]bool{}, subscribed: map[string]map[string]bool{},
	}
}

// settle takes in a response to which Envoy answered with detail, which is
// empty for an ACK. Of a refused response Envoy applies what is good, so only
// resources that the detail names are left out.
func (r *record) settle(resp *discoveryv3.DeltaDiscoveryResponse, detail string, now time.Time) {
	typeURL := resp.GetTypeUrl()
	if r.types[typeURL] == nil {
		r.types[typeURL] = map[string]*discoveryv3.Resource{}
		r.refused[typeURL] = map[string]xds.Refusal{}
	}
	for _, res := range resp.GetResources() {
		name := res.GetName()
		if mentions(detail, name) {
			r.refused[typeURL][name] = xds.Refusal{Name: name, Version: res.GetVersion(), Reason: detail, At: now}
			continue
		}
		r.types[typeURL][name] = res
		delete(r.refused[typeURL], name)
	}
	for _, name := range resp.GetRemovedResources() {
		delete(r.types[typeURL], name)
		delete(r.refused[typeURL], name)
		delete(r.subscribed[typeURL], name)
	}
	r.answered[typeURL] = true
}

// mentions reports whether text has name as a word of its own: a name may be a
// part of another.
func mentions(text, name string) bool {
	for from := 0; name != ""; {
		i := strings.Index(text[from:], name)
		if i < 0 {
			return false
		}
		start, end := from+i, from+i+len(name)
		if (start == 0 || !inName(text[start-1])) && (end == len(text) || !inName(text[end])) {
			return true
		}
		from = start + 1
	}
	return false
}

func inName(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("|.-_", c) >= 0
}

// subscribe follows what Envoy subscribes to, and drops what it no longer wants.
func (r *record) subscribe(req *discoveryv3.DeltaDiscoveryRequest) {
	typeURL := req.GetTypeUrl()
	if r.subscribed[typeURL] == nil {
		r.subscribed[typeURL] = map[string]bool{}
	}
	for _, name := range req.GetResourceNamesSubscribe() {
		if name != "*" {
			r.subscribed[typeURL][name] = true
		}
	}
	for _, name := range req.GetResourceNamesUnsubscribe() {
		delete(r.subscribed[typeURL], name)
		delete(r.types[typeURL], name)
		delete(r.refused[typeURL], name)
	}
}

// reset drops what an Envoy that starts anew does not have: it says what it has
// with its first request of a type.
func (r *record) reset(req *discoveryv3.DeltaDiscoveryRequest) {
	typeURL := req.GetTypeUrl()
	for name := range r.types[typeURL] {
		if _, has := req.GetInitialResourceVersions()[name]; !has {
			delete(r.types[typeURL], name)
		}
	}
	delete(r.answered, typeURL)
	delete(r.subscribed, typeURL)
}

func (r *record) complete() bool { return r.answered[xds.TypeCluster] && r.answered[xds.TypeListener] }

// whole reports whether everything is held that Envoy needs after a restart: it
// asks for load assignments and routes only after it has what refers to them.
func (r *record) whole() bool {
	for typeURL, names := range r.subscribed {
		for name := range names {
			if _, ok := r.types[typeURL][name]; !ok {
				return false
			}
		}
	}
	return r.complete()
}

func (r *record) responses() []*discoveryv3.DeltaDiscoveryResponse {
	var out []*discoveryv3.DeltaDiscoveryResponse
	for _, typeURL := range slices.Sorted(maps.Keys(r.types)) {
		resp := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeURL}
		for _, name := range slices.Sorted(maps.Keys(r.types[typeURL])) {
			resp.Resources = append(resp.Resources, r.types[typeURL][name])
		}
		out = append(out, resp)
	}
	return out
}

func (r *record) refusals(typeURL string) []xds.Refusal {
	var out []xds.Refusal
	for _, name := range slices.Sorted(maps.Keys(r.refused[typeURL])) {
		out = append(out, r.refused[typeURL][name])
	}
	return out
}

// state decodes what is held; what cannot be decoded is left out.
func (r *record) state() xds.State {
	out := xds.State{}
	for typeURL, resources := range r.types {
		out[typeURL] = make(map[string]proto.Message, len(resources))
		for name, res := range resources {
			if m, err := res.GetResource().UnmarshalNew(); err == nil {
				out[typeURL][name] = m
			}
		}
	}
	return out
}
