// Package eastwest says how a service is reached from another network: the
// server names that gateways pass on, and the hops a proxy sees in place of
// endpoints that it cannot reach itself. It is pure.
package eastwest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/api"
)

// Limits of a DNS name in bytes. (RFC 1035 §2.3.4; RFC 6066 §3 for server names)
const (
	MaxNameLength  = 253
	MaxLabelLength = 63
)

var (
	// ErrNameTooLong is wrapped where a server name would be longer than
	// MaxNameLength, or a part of it longer than MaxLabelLength.
	ErrNameTooLong = errors.New("server name too long")
	// ErrInvalidName is wrapped by every other error about a server name.
	ErrInvalidName = errors.New("invalid server name")
)

// Name is what a server name under api.SNISuffix says. Subset may be empty. Pod
// is one pod of a headless service and Cluster where it runs, since pods of two
// clusters may share a name; both are empty for the service as a whole.
type Name struct {
	Namespace, Service string
	Port               uint16
	Subset             string
	Pod, Cluster       string
}

// SNI returns the server name that carries traffic for a port of a service
// through an east-west gateway. The same arguments give the same name in every
// cluster, so both ends compute it. The error wraps ErrNameTooLong or
// ErrInvalidName.
func SNI(namespace, name string, port uint16) (string, error) {
	return Name{Namespace: namespace, Service: name, Port: port}.SNI()
}

// PodSNI is SNI for one pod, of that cluster, of a headless service.
func PodSNI(namespace, name string, port uint16, pod, cluster string) (string, error) {
	if pod == "" {
		return "", fmt.Errorf("%w: no pod", ErrInvalidName)
	}
	return Name{Namespace: namespace, Service: name, Port: port, Pod: pod, Cluster: cluster}.SNI()
}

// SNI returns the server name of n,
// [POD.CLUSTER.pod.][SUBSET.subset.]pPORT.NAME.NAMESPACE.sni.isthmus.internal,
// in lower case. The error wraps ErrNameTooLong or ErrInvalidName.
func (n Name) SNI() (string, error) {
	if n.Port == 0 {
		return "", fmt.Errorf("%w: port 0", ErrInvalidName)
	}
	var labels []string
	if n.Pod != "" || n.Cluster != "" {
		labels = append(labels, n.Pod, n.Cluster, "pod")
	}
	if n.Subset != "" {
		labels = append(labels, n.Subset, "subset")
	}
	labels = append(labels, "p"+strconv.Itoa(int(n.Port)), n.Service, n.Namespace)
	for _, label := range labels {
		if err := checkLabel(label); err != nil {
			return "", err
		}
	}
	name := strings.Join(append(labels, api.SNISuffix), ".")
	if len(name) > MaxNameLength {
		return "", fmt.Errorf("%w: %d bytes, at most %d", ErrNameTooLong, len(name), MaxNameLength)
	}
	return name, nil
}

// ParseSNI is the inverse of SNI. It takes ASCII letters of either case, as TLS
// does, and nothing else that SNI would not return; the error wraps
// ErrInvalidName or ErrNameTooLong.
func ParseSNI(s string) (Name, error) {
	if len(s) > MaxNameLength {
		return Name{}, fmt.Errorf("%w: %d bytes, at most %d", ErrNameTooLong, len(s), MaxNameLength)
	}
	rest, ok := strings.CutSuffix(lower(s), "."+api.SNISuffix)
	if !ok {
		return Name{}, fmt.Errorf("%w: %q does not end in .%s", ErrInvalidName, s, api.SNISuffix)
	}
	n, ok := fromLabels(strings.Split(rest, "."))
	if !ok {
		return Name{}, fmt.Errorf("%w: %q is not [POD.CLUSTER.pod.][SUBSET.subset.]pPORT.NAME.NAMESPACE.%s", ErrInvalidName, s, api.SNISuffix)
	}
	if again, err := n.SNI(); err != nil {
		return Name{}, fmt.Errorf("parse %q: %w", s, err)
	} else if again != lower(s) {
		return Name{}, fmt.Errorf("%w: %q is not in canonical form", ErrInvalidName, s)
	}
	return n, nil
}

// fromLabels reads the labels before the suffix from the right, where their
// meaning is fixed. It leaves their syntax to the caller.
func fromLabels(labels []string) (n Name, ok bool) {
	end := len(labels)
	if end < 3 {
		return Name{}, false
	}
	n.Namespace, n.Service = labels[end-1], labels[end-2]
	digits, ok := strings.CutPrefix(labels[end-3], "p")
	port, err := strconv.ParseUint(digits, 10, 16)
	if !ok || err != nil {
		return Name{}, false
	}
	n.Port = uint16(port)
	labels = labels[:end-3]
	if end := len(labels); end >= 2 && labels[end-1] == "subset" {
		labels, n.Subset = labels[:end-2], labels[end-2]
	}
	if end := len(labels); end >= 3 && labels[end-1] == "pod" {
		labels, n.Pod, n.Cluster = labels[:end-3], labels[end-3], labels[end-2]
	}
	return n, len(labels) == 0
}

// checkLabel holds a part of a name to RFC 1123, lower case.
func checkLabel(label string) error {
	if len(label) > MaxLabelLength {
		return fmt.Errorf("%w: part of %d bytes, at most %d", ErrNameTooLong, len(label), MaxLabelLength)
	}
	if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
		return fmt.Errorf("%w: %q is not a DNS label", ErrInvalidName, label)
	}
	for _, c := range []byte(label) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Errorf("%w: %q is not a lower-case DNS label", ErrInvalidName, label)
		}
	}
	return nil
}

// lower folds ASCII letters only; strings.ToLower would fold letters into
// ASCII that are not (the Kelvin sign).
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
