package eastwest_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/eastwest"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/meshtest"
)

// network is what another network has: addresses of gateways that answer and that
// are silent, and ready endpoints.
type network struct{ gateways, silent, ready int }

// However many addresses a network's gateways have, the network weighs what is
// ready behind it, and every address is of use.
func TestNetworksWeighWhatIsBehind(t *testing.T) {
	for name, tt := range map[string]struct {
		green, red network
		scale      uint32
	}{
		"one address each":                 {network{1, 0, 2}, network{1, 0, 3}, 1},
		"as many addresses as pods":        {network{4, 0, 4}, network{2, 0, 7}, 1},
		"many addresses, few pods":         {network{17, 0, 2}, network{1, 0, 10}, 9},
		"many addresses on either side":    {network{17, 0, 2}, network{5, 0, 1}, 9},
		"one pod more shows":               {network{17, 0, 3}, network{1, 0, 10}, 6},
		"more pods than addresses":         {network{17, 0, 18}, network{1, 0, 10}, 1},
		"silent ones stand for all of it":  {network{2, 5, 2}, network{1, 0, 1}, 3},
		"all silent":                       {network{0, 5, 2}, network{0, 1, 4}, 3},
		"the most that one name may carry": {network{64, 0, 1}, network{64, 0, 1000}, 64},
	} {
		t.Run(name, func(t *testing.T) {
			got := weights(t, tt.green, tt.red)
			want := map[string]uint32{"blue 0": tt.scale}
			last := uint32(1)
			if tt.green.gateways+tt.red.gateways > 0 {
				last = 2
			}
			for network, n := range map[string]network{"green": tt.green, "red": tt.red} {
				if n.gateways > 0 {
					want[network+" 1"] = uint32(n.ready) * tt.scale
				}
				if n.silent > 0 {
					want[fmt.Sprintf("%s %d", network, last)] = uint32(n.ready) * tt.scale
				}
			}
			if !maps.Equal(got, want) {
				t.Errorf("weights %v, want %v", got, want)
			}
		})
	}
}

// weights returns what each network weighs in each priority where green and red
// stand behind one pod of the own network, blue.
func weights(t *testing.T, green, red network) map[string]uint32 {
	t.Helper()
	s := meshtest.Snapshot(t, "cluster east network=blue read\n"+
		"cluster west network=green read"+gatewayWords("2", green.gateways, green.silent)+
		"cluster north network=red read"+gatewayWords("3", red.gateways, red.silent)+
		"service echo.shop\n  port 80 http\n  endpoint east 10.1.0.1 pod=own account=echo mtls 80:80\n"+
		fmt.Sprintf("  count west 80 %d\n  count north 80 %d\n", green.ready, red.ready))
	svc := s.Service(federation.ServiceKey{Namespace: "shop", Name: "echo"})
	out := map[string]uint32{}
	for _, h := range eastwest.Hops(svc, 80, eastwest.View{Cluster: "east", Network: "blue", MTLS: true}, s) {
		if h.Weight == 0 {
			t.Errorf("%v has no weight", h.Addr)
		}
		out[fmt.Sprintf("%s %d", h.Network, h.Priority)] += h.Weight
	}
	return out
}

func gatewayWords(net string, answering, silent int) string {
	var all []string
	for i := range answering + silent {
		word := fmt.Sprintf("192.0.%s.%d:15443", net, i+1)
		if i >= answering {
			word += "/silent"
		}
		all = append(all, word)
	}
	return " gateways=" + strings.Join(all, ",") + "\n"
}

// Weights that scaling would take past what an assignment can hold are left.
func TestWeightsStayInRange(t *testing.T) {
	s := meshtest.Snapshot(t, "cluster east network=blue read\n"+
		"cluster west network=green read"+gatewayWords("2", 17, 0)+
		"cluster north network=red read gateways=192.0.3.1:15443\n"+
		"service echo.shop\n  port 80 http\n  account echo\n  count west 80 1\n  count north 80 4000000000\n")
	svc := s.Service(federation.ServiceKey{Namespace: "shop", Name: "echo"})
	for _, h := range eastwest.Hops(svc, 80, eastwest.View{Cluster: "east", Network: "blue", MTLS: true}, s) {
		if h.Weight == 0 || h.Network == "red" && h.Weight != 4000000000 {
			t.Errorf("%s weighs %d", h.Addr, h.Weight)
		}
	}
}
