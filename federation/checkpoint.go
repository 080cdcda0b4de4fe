package federation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/isthmus-mesh/isthmus/trust"
)

// Limits of an encoded checkpoint. One object of the API server holds all its
// annotations in 256 KiB, so a checkpoint stays well under that.
const (
	MaxCheckpointBytes    = 128 << 10
	MaxCheckpointGateways = 64
	MaxCheckpointPorts    = 256
	MaxCheckpointCounts   = 1024
	MaxCheckpointAccounts = 256
	MaxCheckpointAddrs    = 1000 // as many as one slice holds
	MaxCheckpointPods     = 1000 // likewise
)

// ErrCheckpoint is wrapped by every error of ParseCheckpoint.
var ErrCheckpoint = errors.New("invalid checkpoint")

// Checkpoint is what the addresses of an imported EndpointSlice cannot say about
// one cluster's export. It is the value of the slice's annotation
// api.AnnotationCheckpoint, so that a control plane that starts while that
// cluster cannot be read goes on with what was last known.
type Checkpoint struct {
	Network NetworkName
	// Gateways are the addresses of the network's east-west gateways,
	// "host:port" as the cluster's Services gave them; sorted.
	Gateways []string
	// ExportedSince is the creation time of the export, to the second.
	ExportedSince time.Time
	Headless      bool
	Ports         []Port            // what that cluster exposes, by number
	Ready         []CheckpointCount // sorted by port, region and zone
	Accounts      []trust.ID        // sorted
	// Plaintext are those of the slice's addresses that have no sidecar; all
	// others are called by mTLS. Sorted.
	Plaintext []netip.Addr
	// Declared is what the export says beyond Ports; nil where nothing is known.
	Declared *Declared
	// Pods are the pods with a sidecar of a headless export on another network,
	// sorted by name; the slice's endpoints say the rest of them.
	Pods []CheckpointPod
	// NoEntry is Export.NoEntry.
	NoEntry bool
}

// CheckpointPod is a pod whose own address is not to be used.
type CheckpointPod struct {
	Name    string
	Account trust.ID
}

// CheckpointCount says how many ready endpoints with a sidecar there are for a
// port in one zone.
type CheckpointCount struct {
	Port     uint16
	Locality Locality
	Count    uint32
}

// The wire form. Names are fixed: slices of older versions must stay readable.
type checkpointJSON struct {
	Network       NetworkName      `json:"network"`
	Gateways      []string         `json:"gateways,omitempty"`
	ExportedSince time.Time        `json:"exportedSince"`
	Headless      bool             `json:"headless,omitempty"`
	Ports         []checkpointPort `json:"ports,omitempty"`
	Ready         []checkpointZone `json:"ready,omitempty"`
	Accounts      []string         `json:"accounts,omitempty"`
	Plaintext     []netip.Addr     `json:"plaintext,omitempty"`
	Declared      *Declared        `json:"declared,omitempty"`
	Pods          []podJSON        `json:"pods,omitempty"`
	NoEntry       bool             `json:"noEntry,omitempty"`
}

type podJSON struct {
	Name    string `json:"name"`
	Account string `json:"account"`
}

type checkpointPort struct {
	Name     string `json:"name,omitempty"`
	Number   uint16 `json:"number"`
	Protocol string `json:"protocol,omitempty"`
}

type checkpointZone struct {
	Port   uint16 `json:"port"`
	Region string `json:"region,omitempty"`
	Zone   string `json:"zone,omitempty"`
	Count  uint32 `json:"count"`
}

// Encode returns the annotation's value: equal checkpoints give equal text.
func (c Checkpoint) Encode() (string, error) {
	wire := checkpointJSON{Network: c.Network, Gateways: c.Gateways, ExportedSince: c.ExportedSince.UTC().Truncate(time.Second), Headless: c.Headless, Plaintext: c.Plaintext, Declared: c.Declared, NoEntry: c.NoEntry}
	for _, p := range c.Ports {
		wire.Ports = append(wire.Ports, checkpointPort{p.Name, p.Number, p.Protocol.String()})
	}
	for _, r := range c.Ready {
		wire.Ready = append(wire.Ready, checkpointZone{r.Port, r.Locality.Region, r.Locality.Zone, r.Count})
	}
	for _, id := range c.Accounts {
		wire.Accounts = append(wire.Accounts, id.String())
	}
	for _, p := range c.Pods {
		wire.Pods = append(wire.Pods, podJSON{p.Name, p.Account.String()})
	}
	if err := wire.check(); err != nil {
		return "", err
	}
	b, err := json.Marshal(wire)
	if err != nil {
		return "", fmt.Errorf("encode checkpoint: %w", err)
	}
	if len(b) > MaxCheckpointBytes {
		return "", fmt.Errorf("%w: %d bytes, more than %d", ErrCheckpoint, len(b), MaxCheckpointBytes)
	}
	return string(b), nil
}

// ParseCheckpoint reads an annotation's value. Unknown fields, numbers out of
// range and trailing text are refused: whoever writes slices by hand is told.
func ParseCheckpoint(s string) (Checkpoint, error) {
	if len(s) > MaxCheckpointBytes {
		return Checkpoint{}, fmt.Errorf("%w: %d bytes, more than %d", ErrCheckpoint, len(s), MaxCheckpointBytes)
	}
	dec := json.NewDecoder(bytes.NewReader([]byte(s)))
	dec.DisallowUnknownFields()
	var wire checkpointJSON
	if err := dec.Decode(&wire); err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %v", ErrCheckpoint, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return Checkpoint{}, fmt.Errorf("%w: text after the object", ErrCheckpoint)
	}
	if err := wire.check(); err != nil {
		return Checkpoint{}, err
	}
	return wire.value()
}

func (w checkpointJSON) check() error {
	switch {
	case len(w.Gateways) > MaxCheckpointGateways, len(w.Ports) > MaxCheckpointPorts, len(w.Ready) > MaxCheckpointCounts, len(w.Accounts) > MaxCheckpointAccounts,
		len(w.Plaintext) > MaxCheckpointAddrs, len(w.Pods) > MaxCheckpointPods:
		return fmt.Errorf("%w: too many entries", ErrCheckpoint)
	case w.ExportedSince.IsZero():
		return fmt.Errorf("%w: no exportedSince", ErrCheckpoint)
	}
	for _, g := range w.Gateways {
		host, port, err := net.SplitHostPort(g)
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || host == "" {
			return fmt.Errorf("%w: gateway %q is not host:port", ErrCheckpoint, g)
		}
	}
	for _, p := range w.Ports {
		if _, ok := ParseProtocol(p.Protocol); p.Number == 0 || !ok {
			return fmt.Errorf("%w: port %q: number %d, protocol %q", ErrCheckpoint, p.Name, p.Number, p.Protocol)
		}
	}
	for _, r := range w.Ready {
		if r.Port == 0 {
			return fmt.Errorf("%w: count without a port", ErrCheckpoint)
		}
	}
	for i, p := range w.Pods {
		if !subdomain(p.Name) || i > 0 && p.Name <= w.Pods[i-1].Name {
			return fmt.Errorf("%w: pod %q: no name of a pod, or not sorted", ErrCheckpoint, p.Name)
		}
	}
	return w.Declared.check()
}

// subdomain reports whether s can be the name of a pod. (RFC 1123)
func subdomain(s string) bool {
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	for i := range len(s) {
		alone := i == 0 || i == len(s)-1 || s[i-1] == '.' || s[i+1] == '.'
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'z') && (alone || c != '-' && c != '.') {
			return false
		}
	}
	return true
}

func (w checkpointJSON) value() (Checkpoint, error) {
	c := Checkpoint{Network: w.Network, Gateways: w.Gateways, ExportedSince: w.ExportedSince.UTC(), Headless: w.Headless, Plaintext: w.Plaintext, Declared: w.Declared, NoEntry: w.NoEntry}
	for _, p := range w.Ports {
		protocol, _ := ParseProtocol(p.Protocol)
		c.Ports = append(c.Ports, Port{p.Name, p.Number, protocol})
	}
	for _, r := range w.Ready {
		c.Ready = append(c.Ready, CheckpointCount{r.Port, Locality{r.Region, r.Zone}, r.Count})
	}
	for _, a := range w.Accounts {
		id, err := trust.ParseID(a)
		if err != nil {
			return Checkpoint{}, fmt.Errorf("%w: %w", ErrCheckpoint, err)
		}
		c.Accounts = append(c.Accounts, id)
	}
	slices.SortFunc(c.Accounts, trust.ID.Compare)
	for _, p := range w.Pods {
		id, err := trust.ParseID(p.Account)
		if err != nil {
			return Checkpoint{}, fmt.Errorf("%w: pod %q: %w", ErrCheckpoint, p.Name, err)
		}
		c.Pods = append(c.Pods, CheckpointPod{p.Name, id})
	}
	return c, nil
}

var protocolNames = [...]string{ProtocolAuto: "auto", ProtocolHTTP: "http", ProtocolHTTP2: "http2", ProtocolTCP: "tcp", ProtocolUDP: "udp"}

// String returns the name that ParseProtocol reads.
func (p Protocol) String() string {
	if int(p) >= len(protocolNames) {
		return "unknown"
	}
	return protocolNames[p]
}

// ParseProtocol reads what Protocol.String writes; the empty name is auto.
func ParseProtocol(name string) (Protocol, bool) {
	if name == "" {
		return ProtocolAuto, true
	}
	i := slices.Index(protocolNames[:], name)
	return Protocol(max(i, 0)), i >= 0
}
