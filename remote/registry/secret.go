package registry

import (
	"cmp"
	"crypto/sha256"
	"regexp"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/api"
)

// remote is a remote secret after its check.
type remote struct {
	secret  string // its name
	cluster string // by the label
	hash    [32]byte
	created int64
	access  Access
	err     error // why it is refused, wrapping ErrRefused
}

var clusterName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// check reads a remote secret. own is this cluster's name.
func check(s *corev1.Secret, own string, allow []string) remote {
	r := remote{secret: s.Name, cluster: s.Labels[api.LabelRemoteCluster], created: s.CreationTimestamp.UnixNano()}
	raw := s.Data[api.RemoteKubeconfigKey]
	r.hash = sha256.Sum256(append(append([]byte(r.cluster+"\x00"), s.Data[api.RemoteClusterKey]...), raw...))
	named := string(s.Data[api.RemoteClusterKey])
	switch {
	case !clusterName.MatchString(r.cluster):
		r.err = refused("label %s is no cluster name", api.LabelRemoteCluster)
	case named != r.cluster:
		r.err = refused("key %q names cluster %q, the label %q", api.RemoteClusterKey, clip(named, 64), r.cluster)
	case r.cluster == own:
		r.err = refused("cluster %q is this one", own)
	case len(raw) == 0:
		r.err = refused("key %q is missing", api.RemoteKubeconfigKey)
	default:
		r.access, r.err = ParseKubeconfig(raw, allow)
	}
	return r
}

// choose picks one secret for each cluster and refuses the others: the one in
// use counts, else the oldest, by name where equal.
func choose(remotes map[string]remote, used map[string]string) (chosen map[string]remote, surplus []remote) {
	chosen = map[string]remote{}
	sorted := make([]remote, 0, len(remotes))
	for _, r := range remotes {
		sorted = append(sorted, r)
	}
	rank := func(r remote) int {
		if used[r.cluster] == r.secret {
			return 0
		}
		return 1
	}
	slices.SortFunc(sorted, func(a, b remote) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.created, b.created), cmp.Compare(a.secret, b.secret))
	})
	for _, r := range sorted {
		winner, taken := chosen[r.cluster]
		switch {
		case !taken:
			chosen[r.cluster] = r
		case r.err == nil:
			r.err = refused("secret %s leads to cluster %q already", winner.secret, r.cluster)
			surplus = append(surplus, r)
		default:
			surplus = append(surplus, r)
		}
	}
	return chosen, surplus
}
