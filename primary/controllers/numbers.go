package controllers

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/controllers/allot"
)

// How long numbers rest before another key gets them.
const (
	entryRest     = 25 * time.Hour   // connections through an entry gateway live 24 h at most (docs/xds.md)
	syntheticRest = 10 * time.Minute // callers hold on to a name's address for a while
)

// podOf names a pod of a headless service in the cluster where it runs.
type podOf struct {
	Cluster federation.ClusterName
	Pod     string
}

// wanted is what one import needs numbers for.
type wanted struct {
	// Ports are the import's that clusters of other networks expose, and the
	// oldest exporter of each: it counts for that cluster's share.
	Ports map[uint16]federation.ClusterName
	Pods  map[podOf]bool // of other networks, of a headless import
}

// given are the numbers that one import has.
type given struct {
	Entry     map[uint16]uint16 // entry port of the import's port
	Synthetic map[podOf]netip.Addr
	Short     []federation.Problem // why some are missing
}

// numbers gives out entry ports and synthetic addresses for one term of the
// elected replica. What is given is kept in the slices that its user writes; what
// was given up, in the ledger.
type numbers struct {
	ports     api.PortRange
	addresses range4
	ledger    ledger

	mu        sync.Mutex
	entry     *lot                // import's port to entry port
	synthetic *lot                // cluster/pod to offset in addresses
	changed   marks               // counts what the ledger has to know
	saved     marks               // of changed, what it knows
	waiting   map[objectKey]marks // imports that gave up something: which of changed they wait for

	dirty chan struct{} // of one: there is something to save
}

// marks are counters of what was given up: of each kind its own, so that a ledger
// in which one of them finds no room holds up nobody who gave up the other.
type marks struct{ entry, synthetic int }

// reached reports whether m is as far as want.
func (m marks) reached(want marks) bool {
	return m.entry >= want.entry && m.synthetic >= want.synthetic
}

// newNumbers returns numbers of which none is given.
func newNumbers(ports api.PortRange, addresses range4, l ledger) *numbers {
	n := &numbers{ports: ports, addresses: addresses, ledger: l, waiting: map[objectKey]marks{}, dirty: make(chan struct{}, 1)}
	n.entry = newLot(int(ports.First), int(ports.Last), entryRest)
	if ports.First == 0 {
		n.entry = newLot(1, 0, entryRest)
	}
	n.synthetic = newLot(1, addresses.last(), syntheticRest)
	return n
}

// settle gives import key what it wants and takes back the rest of what it had.
// It reports whether the ledger knows of all that was taken back: only then may
// the slices that held it change. Where not, run asks for key again soon.
func (n *numbers) settle(key objectKey, want wanted, now time.Time) (given, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := given{Entry: map[uint16]uint16{}, Synthetic: map[podOf]netip.Addr{}}
	ports, pods := map[string]uint16{}, map[string]podOf{}
	for p := range want.Ports {
		ports[strconv.Itoa(int(p))] = p
	}
	for p := range want.Pods {
		pods[string(p.Cluster)+"/"+p.Pod] = p
	}
	waits := n.waiting[key]
	if n.entry.giveBack(key, func(suffix string) bool { _, ok := ports[suffix]; return ok }, now) {
		n.changed.entry++
		waits.entry = n.changed.entry
	}
	if n.synthetic.giveBack(key, func(suffix string) bool { _, ok := pods[suffix]; return ok }, now) {
		n.changed.synthetic++
		waits.synthetic = n.changed.synthetic
	}
	missing, short := 0, error(nil)
	var first string
	for _, suffix := range slices.Sorted(maps.Keys(ports)) {
		number, err := n.takePort(key, suffix, want.Ports[ports[suffix]], now)
		if err != nil {
			if missing++; missing == 1 {
				first, short = suffix, err
			}
			continue
		}
		out.Entry[ports[suffix]] = uint16(number)
	}
	if missing > 0 {
		out.Short = append(out.Short, federation.Problem{Reason: reasonEntryPortsUsedUp, Message: fmt.Sprintf(
			"pods without a sidecar cannot reach other networks at port %s%s: of the entry ports %v; a larger range is given by entry.ports", first, andMore(missing-1), short)})
	}
	missing = 0
	for _, suffix := range slices.Sorted(maps.Keys(pods)) {
		number, err := n.synthetic.take(key, suffix, pods[suffix].Cluster, now)
		if err != nil {
			if missing++; missing == 1 {
				short = err
			}
			continue
		}
		out.Synthetic[pods[suffix]] = n.addresses.at(number)
	}
	if missing > 0 {
		out.Short = append(out.Short, federation.Problem{Reason: reasonSyntheticUsedUp, Message: fmt.Sprintf(
			"%d pods of other networks have no address here: of the offsets in %s %v; a larger range is given by syntheticRange", missing, n.addresses.prefix, short)})
	}
	if n.saved.reached(waits) {
		delete(n.waiting, key)
		return out, true
	}
	n.waiting[key] = waits
	n.wake()
	return out, false
}

// maxEntryPorts is how many ports of one import get an entry port.
const maxEntryPorts = 256

func (n *numbers) takePort(key objectKey, port string, of federation.ClusterName, now time.Time) (int, error) {
	if have := n.entry.of[key]; len(have) >= maxEntryPorts && !have[port] {
		return 0, fmt.Errorf("%w for this import, which %s exports: an import has %d at most", allot.ErrExhausted, of, maxEntryPorts)
	}
	return n.entry.take(key, port, of, now)
}

func andMore(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" and %d more", n)
}

func (n *numbers) wake() {
	select {
	case n.dirty <- struct{}{}:
	default:
	}
}

// imports returns the imports that hold numbers.
func (n *numbers) imports() []objectKey {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := slices.AppendSeq(slices.Collect(maps.Keys(n.entry.of)), maps.Keys(n.synthetic.of))
	return out
}

// withPorts returns the imports that hold entry ports.
func (n *numbers) withPorts() []objectKey {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Collect(maps.Keys(n.entry.of))
}
