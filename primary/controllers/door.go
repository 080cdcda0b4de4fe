package controllers

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation/ingest"
)

// A Door is where the control plane of a primary is reached from outside its
// cluster: at the east-west gateway, which passes both ports on.
type Door struct {
	Addrs     []netip.Addr // sorted, no duplicates, at least one
	Discovery uint16       // leads to isthmusd's api.PortDiscovery
	Webhook   uint16       // leads to its api.PortWebhook
}

// FindDoor reads the door from the Service of the cluster's east-west gateway.
func FindDoor(ctx context.Context, kube kubernetes.Interface, namespace string) (Door, error) {
	list, err := kube.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{LabelSelector: api.LabelGateway + "=" + api.GatewayEastWest})
	if err != nil {
		return Door{}, fmt.Errorf("list the east-west gateway's Service: %w", err)
	}
	nodes, err := slimNodes(ctx, kube)
	if err != nil {
		return Door{}, err
	}
	var door Door
	for i := range list.Items {
		s := ingest.SlimService(&list.Items[i])
		for number, into := range map[uint16]*uint16{api.PortDiscovery: &door.Discovery, api.PortWebhook: &door.Webhook} {
			if err := door.take(ctx, ingest.DoorAddresses(s, slices.Values(nodes), number), into); err != nil {
				return Door{}, err
			}
		}
	}
	slices.SortFunc(door.Addrs, netip.Addr.Compare)
	door.Addrs = slices.Compact(door.Addrs)
	if len(door.Addrs) == 0 || door.Discovery == 0 || door.Webhook == 0 {
		return Door{}, fmt.Errorf("the east-west gateway has no outside address with the ports %d and %d (yet): it is installed with gateway.controlPlane=true",
			api.PortDiscovery, api.PortWebhook)
	}
	return door, nil
}

func slimNodes(ctx context.Context, kube kubernetes.Interface) ([]*ingest.Node, error) {
	list, err := kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	var out []*ingest.Node
	for i := range list.Items {
		out = append(out, ingest.SlimNode(&list.Items[i]))
	}
	return out, nil
}

// take adds the hosts of texts, "host:port" all with the same port, and keeps the port.
func (d *Door) take(ctx context.Context, texts []string, port *uint16) error {
	for _, t := range texts {
		host, number, err := net.SplitHostPort(t)
		if err != nil {
			return fmt.Errorf("gateway address %q: %w", t, err)
		}
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return fmt.Errorf("gateway address %q: %w", t, err)
		}
		*port = uint16(n)
		if addr, err := netip.ParseAddr(host); err == nil {
			d.Addrs = append(d.Addrs, addr.Unmap())
			continue
		}
		found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return fmt.Errorf("look up the gateway's name: %w", err)
		}
		for _, a := range found {
			d.Addrs = append(d.Addrs, a.Unmap())
		}
	}
	return nil
}
