// Package intercept redirects a pod's TCP traffic to its sidecar, or a range of
// ports to the entry gateway, by nftables rules in a table of its own, for IPv4
// and IPv6. It needs NET_ADMIN in the
// network namespace of the calling thread, and no nft program.
package intercept

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/google/nftables"

	"github.com/isthmus-mesh/isthmus/api"
)

// Table is the name of the table, of family inet, that Apply owns.
const Table = "isthmus"

// Options says what is left alone. The zero value leaves nothing alone; what is
// excluded stays so, whatever is included.
type Options struct {
	ExcludeInboundPorts  []uint16       // reach the application directly
	ExcludeOutboundPorts []uint16       // leave the pod directly, to any address
	ExcludeOutboundCIDRs []netip.Prefix // leave the pod directly, to any port
	ExcludeUIDs          []uint32       // processes whose connections leave the pod directly
	ExcludeGIDs          []uint32       // the same by effective group
	ExcludeInterfaces    []string       // devices over which nothing is redirected, in or out

	OnlyInboundPorts  Only[uint16]       // where limited, all others reach the application directly
	OnlyOutboundCIDRs Only[netip.Prefix] // where limited, all others are reached directly,
	AlsoOutboundPorts []uint16           // but for these ports, to any address
}

// Only limits what is redirected to List where Limited is set; the list may then
// be empty, and nothing is.
type Only[T any] struct {
	Limited bool
	List    []T
}

// Apply replaces the table by the rules for opts in one transaction: there is no
// moment without rules, and applying twice is the same as once.
func Apply(opts Options) error { return install(rules(opts)) }

// ApplyEntry replaces the table by rules that lead TCP connections from outside
// to the ports of r to the entry gateway's one, and touch nothing else.
func ApplyEntry(r api.PortRange) error { return install(entryRules(r)) }

func install(rules []rule) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	table := clear(conn)
	conn.AddTable(table)
	for _, c := range chains(table) {
		conn.AddChain(c)
	}
	for _, r := range rules {
		conn.AddRule(&nftables.Rule{Table: table, Chain: &nftables.Chain{Name: r.chain}, Exprs: r.exprs})
	}
	return explain("install redirect rules", conn.Flush())
}

// Undo removes the table. It is no error when there is none.
func Undo() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	clear(conn)
	return explain("remove redirect rules", conn.Flush())
}

// clear queues the removal of the table, which is added first so that removing
// it cannot fail.
func clear(conn *nftables.Conn) *nftables.Table {
	table := &nftables.Table{Name: Table, Family: nftables.TableFamilyINet}
	conn.AddTable(table)
	conn.DelTable(table)
	return table
}

func explain(doing string, err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%s: %w (the container needs the capability NET_ADMIN)", doing, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// Names of the chains.
const (
	chainOutput     = "output"
	chainPrerouting = "prerouting"
	chainGuard      = "guard"
)

func chains(table *nftables.Table) []*nftables.Chain {
	return []*nftables.Chain{
		{Name: chainOutput, Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest},
		{Name: chainPrerouting, Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest},
		{Name: chainGuard, Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter},
	}
}
