package launcher

import (
	"fmt"
	"strings"

	"github.com/isthmus-mesh/isthmus/sandbox/plan"
)

// nodeRules keeps networks apart and lets answers find back. What leaves the
// node is masqueraded, except between nodes of one network; what comes in from
// other networks reaches pods through a Service only.
func nodeRules(p plan.Plan, c plan.Cluster) string {
	var b strings.Builder
	from, to := []string{}, []string{}
	for _, other := range p.Neighbours(c) {
		from = append(from, other.Pods.String(), other.NodeAddress.String())
		to = append(to, other.Pods.String())
	}
	b.WriteString("table inet isthmus_node {\n")
	b.WriteString("chain forward { type filter hook forward priority 10; policy accept;\n")
	b.WriteString("ct state established,related accept\n")
	b.WriteString("ct status dnat accept\n")
	b.WriteString("iifname \"pod*\" accept\n")
	if len(from) > 0 {
		fmt.Fprintf(&b, "iifname eth0 oifname \"pod*\" ip saddr { %s } accept\n", strings.Join(from, ", "))
	}
	b.WriteString("reject with icmpx admin-prohibited\n}\n")
	b.WriteString("chain postrouting { type nat hook postrouting priority 110; policy accept;\n")
	if len(to) > 0 {
		fmt.Fprintf(&b, "ip daddr { %s } return\n", strings.Join(to, ", "))
	}
	fmt.Fprintf(&b, "oifname eth0 ip saddr %s masquerade\n}\n}\n", c.Pods)
	return b.String()
}

const cutsTable = "isthmus_cuts"

// cutRules replaces all cuts of a node by cuts. They match what the node and
// its pods send before it is masqueraded, and drop what comes back, so that
// open connections are cut too.
func cutRules(p plan.Plan, cuts []plan.Cut) string {
	var out, in strings.Builder
	for _, cut := range cuts {
		to, _ := p.Cluster(cut.To)
		match := cutMatch(to, cut.What)
		verdict := "drop\n"
		if cut.Mode == plan.Refuse {
			verdict = "reject with icmpx port-unreachable\n"
			fmt.Fprintf(&out, "%s meta l4proto tcp reject with tcp reset\n", match.out)
		}
		fmt.Fprintf(&out, "%s %s", match.out, verdict)
		fmt.Fprintf(&in, "%s drop\n", match.in)
	}
	return fmt.Sprintf(`table inet %[1]s
delete table inet %[1]s
table inet %[1]s {
chain forward { type filter hook forward priority -5; policy accept;
%[2]s}
chain output { type filter hook output priority -5; policy accept;
%[2]s}
chain prerouting { type filter hook prerouting priority -310; policy accept;
%[3]s}
}
`, cutsTable, out.String(), in.String())
}

type match struct{ out, in string }

func cutMatch(to plan.Cluster, what plan.What) match {
	if port, ok := what.TCPPort(); ok {
		set := fmt.Sprintf("{ %s, %s }", to.NodeAddress, to.LoadBalancers)
		return match{
			out: fmt.Sprintf("ip daddr %s tcp dport %d", set, port),
			in:  fmt.Sprintf("ip saddr %s tcp sport %d", set, port),
		}
	}
	switch what {
	case plan.API:
		return match{
			out: fmt.Sprintf("ip daddr %s tcp dport 6443", to.NodeAddress),
			in:  fmt.Sprintf("ip saddr %s tcp sport 6443", to.NodeAddress),
		}
	case plan.Gateway:
		return match{out: fmt.Sprintf("ip daddr %s", to.LoadBalancers), in: fmt.Sprintf("ip saddr %s", to.LoadBalancers)}
	default:
		set := fmt.Sprintf("{ %s, %s, %s }", to.NodeAddress, to.LoadBalancers, to.Pods)
		return match{out: "ip daddr " + set, in: "ip saddr " + set}
	}
}
