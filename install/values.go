package install

// Values are the settings of one cluster's installation. Zero fields take the
// chart's defaults (chart/values.yaml), except Cluster, which is required.
type Values struct {
	// Base is laid below all the rest, in the chart's own words: what an earlier installation was given.
	Base    map[string]any
	Profile string // of chart/profiles; empty: as Base has it, else "default"

	// Revision names a further control plane beside the one there is; empty: that one.
	Revision string

	Cluster     string // name in the clusterset: a DNS label
	Network     string // empty: the cluster's name
	Primary     string // whose control plane serves it; empty: its own
	TrustDomain string
	Clusterset  string // its name

	Hub        string // where images come from
	Tag        string
	PullPolicy string // Always, IfNotPresent or Never

	// CA is the cluster's intermediate; nil where the Secret isthmus-ca is there already.
	CA *CA

	Strict          bool // refuse plaintext in the whole mesh
	Replicas        int  // of isthmusd
	GatewayReplicas int
	// GatewayAddresses are the gateway's outside addresses, host:port, where its
	// Service cannot tell them.
	GatewayAddresses []string
	// AllowServers are remote API servers that are accepted although they are
	// on loopback; for tests.
	AllowServers []string

	// Extra is merged over all the above, in the chart's own words.
	Extra map[string]any
}

// CA is a cluster's intermediate, all PEM.
type CA struct {
	Chain  []byte // leaf first, root not included
	Key    []byte // PKCS#8
	Bundle []byte // roots to trust
}

// Chart returns v in the chart's words, leaving out what is zero.
func (v Values) Chart() map[string]any {
	out := merge(map[string]any{}, v.Base) // a copy
	set(out, v.Cluster, "cluster")
	set(out, v.Profile, "profile")
	set(out, v.Revision, "revision")
	set(out, v.Network, "network")
	set(out, v.Primary, "primary")
	set(out, v.TrustDomain, "trustDomain")
	set(out, v.Clusterset, "clusterset")
	set(out, v.Hub, "image", "hub")
	set(out, v.Tag, "image", "tag")
	set(out, v.PullPolicy, "image", "pullPolicy")
	set(out, v.Replicas, "controlPlane", "replicas")
	set(out, v.GatewayReplicas, "gateway", "replicas")
	setList(out, v.GatewayAddresses, "gateway", "addresses")
	setList(out, v.AllowServers, "controlPlane", "allowServers")
	if v.Strict {
		set(out, "STRICT", "mtls")
	}
	if v.CA != nil {
		set(out, string(v.CA.Chain), "ca", "chain")
		set(out, string(v.CA.Key), "ca", "key")
		set(out, string(v.CA.Bundle), "ca", "bundle")
	}
	return merge(out, v.Extra)
}

// set puts value at path unless it is zero.
func set[T comparable](into map[string]any, value T, path ...string) {
	var zero T
	if value == zero {
		return
	}
	for _, key := range path[:len(path)-1] {
		next, ok := into[key].(map[string]any)
		if !ok {
			next = map[string]any{}
			into[key] = next
		}
		into = next
	}
	into[path[len(path)-1]] = value
}

// setList puts list at path (of two parts) unless it is empty.
func setList(into map[string]any, list []string, path ...string) {
	if len(list) == 0 {
		return
	}
	items := make([]any, len(list))
	for i, s := range list {
		items[i] = s
	}
	section, ok := into[path[0]].(map[string]any)
	if !ok {
		section = map[string]any{}
		into[path[0]] = section
	}
	section[path[1]] = items
}

// merge lays over over base, map by map, and returns base, which shares no map with over.
func merge(base, over map[string]any) map[string]any {
	for key, value := range over {
		above, ok := value.(map[string]any)
		if !ok {
			base[key] = value
			continue
		}
		below, ok := base[key].(map[string]any)
		if !ok {
			below = map[string]any{}
		}
		base[key] = merge(below, above)
	}
	return base
}
