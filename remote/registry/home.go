package registry

import (
	"crypto/sha256"
	"maps"
	"net/http"
)

// Home is the cluster in which the program runs, as a member of a registry
// that reads on behalf of another cluster.
type Home struct {
	Cluster string       // its name
	Server  string       // https://HOST:PORT
	Client  *http.Client // authenticated; belongs to whoever made it
}

// known returns the secrets to choose from, by name. On behalf of another cluster
// that cluster's own does not count, and home comes without one. Under mu.
func (r *Registry) known() map[string]remote {
	home := r.opts.Home
	if home == nil {
		return r.secrets
	}
	out := maps.Clone(r.secrets)
	maps.DeleteFunc(out, func(_ string, s remote) bool { return s.cluster == r.opts.Cluster || s.cluster == home.Cluster })
	out[home.secret()] = remote{
		secret:  home.secret(),
		cluster: home.Cluster, hash: sha256.Sum256([]byte(home.Cluster + "\x00" + home.Server)),
		access: Access{Server: home.Server, home: home},
	}
	return out
}

// connect returns a client for what a leads to; gate may be nil.
func (a Access) connect(allow []string, gate *gate) (*http.Client, error) {
	if a.home != nil {
		return a.home.Client, nil
	}
	return newClient(a, allow, gate)
}

// secret stands where others have the name of a secret; no Secret is named so.
func (h *Home) secret() string { return "in-cluster:" + h.Cluster }
