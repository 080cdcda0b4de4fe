package scale_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// counter counts what goes to the local API server.
type counter struct {
	mu   sync.Mutex
	all  map[string]int
	last time.Time
}

// counts are finished requests by what they did, such as "PATCH endpointslices".
type counts struct {
	Writes map[string]int
	Last   time.Time // when the last write of an import, a derived Service or a slice ended
}

// of are the kinds that make up an import.
var imported = []string{"serviceimports", "serviceimports/status", "services", "endpointslices"}

// roundTripper is a function that is one.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (c *counter) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(r)
		if r.Method != http.MethodGet {
			c.count(r.Method, resourceOf(r.URL.Path))
		}
		return resp, err
	})
}

func (c *counter) count(method, resource string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = map[string]int{}
	}
	c.all[method+" "+resource]++
	if slices.Contains(imported, resource) {
		c.last = time.Now()
	}
}

func (c *counter) counts() counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return counts{maps.Clone(c.all), c.last}
}

// resourceOf returns "serviceimports" or "serviceimports/status" of a path such
// as /apis/GROUP/VERSION/namespaces/NS/serviceimports/NAME/status.
func resourceOf(path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	skip := 3 // apis, group, version
	if parts[0] == "api" {
		skip = 2
	}
	parts = parts[min(skip, len(parts)):]
	if len(parts) > 2 && parts[0] == "namespaces" {
		parts = parts[2:]
	}
	if len(parts) == 0 {
		return path
	}
	if len(parts) > 2 {
		return parts[0] + "/" + parts[2]
	}
	return parts[0]
}

// minus returns what was counted since before, leaving out the lease.
func (c counts) minus(before counts) map[string]int {
	out := map[string]int{}
	for what, n := range c.Writes {
		if n -= before.Writes[what]; n > 0 && !strings.HasSuffix(what, " leases") {
			out[what] = n
		}
	}
	return out
}
