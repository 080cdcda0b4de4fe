package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// firstRequestPatience is how long the configuration may take to arrive.
const firstRequestPatience = 30 * time.Second

// openedMetric counts the connections that a gateway has connected through.
const openedMetric = "istio_tcp_connections_opened_total"

// count reads how many connections the gateway of c has passed until now.
func (g *Passage) count(ctx context.Context, c *cluster.Cluster, into *int) error {
	pod, err := gatewayPod(ctx, c)
	if err != nil {
		return err
	}
	g.Pod = pod.Name
	view, err := c.Forward(ctx, pod.Namespace, pod.Name, api.PortAdmin)
	if err != nil {
		return err
	}
	defer view.Close()
	body, err := view.Get(ctx, "/stats/prometheus")
	if err != nil {
		return err
	}
	*into, err = sum(body, openedMetric)
	return err
}

// sum adds up all series of a counter in Prometheus' text form.
func sum(text []byte, metric string) (int, error) {
	total := 0.0
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if rest, ok := strings.CutPrefix(line, metric); !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", metric, err)
		}
		total += value
	}
	return int(total), lines.Err()
}

// readProxy reads from the client's own proxy who it is and where it sends
// requests for target to.
func (p *Path) readProxy(ctx context.Context, c *cluster.Cluster, client *corev1.Pod, target string) error {
	name, err := listenerName(target)
	if err != nil {
		return err
	}
	view, err := c.Forward(ctx, client.Namespace, client.Name, api.PortAdmin)
	if err != nil {
		return err
	}
	defer view.Close()
	var identity struct {
		ID string `json:"id"`
	}
	if err := view.GetJSON(ctx, "/certs", &identity); err != nil {
		return err
	}
	p.Client.Identity = identity.ID
	var dump struct {
		ClusterLoadAssignment map[string]assignment
		Cluster               map[string]json.RawMessage
	}
	if err := view.GetJSON(ctx, "/config_dump", &dump); err != nil {
		return err
	}
	p.Gateway.SNI = findSNI(dump.Cluster[name])
	hop, ok := dump.ClusterLoadAssignment[name].hop(p.Server.Cluster)
	if !ok {
		return fmt.Errorf("it has no endpoint of %s for %s", p.Server.Cluster, name)
	}
	hop.Container = p.Proxy.Container
	p.Proxy = hop
	if hop.Via == "gateway" {
		p.Gateway.Address = hop.Address
	}
	return nil
}

// assignment is as much of a load assignment as the demo shows. (docs/xds.md)
type assignment struct {
	Endpoints []struct {
		LBEndpoints []struct {
			Endpoint struct {
				Address struct {
					SocketAddress struct {
						Address   string `json:"address"`
						PortValue int    `json:"port_value"`
					} `json:"socket_address"`
				} `json:"address"`
			} `json:"endpoint"`
			Metadata struct {
				FilterMetadata struct {
					Isthmus struct{ Cluster, Network, Via string } `json:"isthmus"`
				} `json:"filter_metadata"`
			} `json:"metadata"`
		} `json:"lb_endpoints"`
	} `json:"endpoints"`
}

// hop returns the first endpoint that leads to the cluster name.
func (a assignment) hop(name string) (Hop, bool) {
	for _, locality := range a.Endpoints {
		for _, e := range locality.LBEndpoints {
			about := e.Metadata.FilterMetadata.Isthmus
			if about.Cluster != name {
				continue
			}
			to := e.Endpoint.Address.SocketAddress
			return Hop{Address: net.JoinHostPort(to.Address, strconv.Itoa(to.PortValue)), Via: about.Via, Cluster: about.Cluster, Network: about.Network}, true
		}
	}
	return Hop{}, false
}

// findSNI returns the server name in an xds cluster's TLS context, or "".
func findSNI(xdsCluster json.RawMessage) string {
	var c struct {
		TransportSocketMatches []struct {
			TransportSocket struct {
				TypedConfig struct {
					SNI string `json:"sni"`
				} `json:"typed_config"`
			} `json:"transport_socket"`
		} `json:"transport_socket_matches"`
	}
	if json.Unmarshal(xdsCluster, &c) != nil {
		return ""
	}
	for _, m := range c.TransportSocketMatches {
		if sni := m.TransportSocket.TypedConfig.SNI; sni != "" {
			return sni
		}
	}
	return ""
}
