package clusterset

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/federation/ingest"
)

// gatewayWait is how install waits for a load balancer.
type gatewayWait struct {
	patience time.Duration     // how long it may take to give an address
	notice   time.Duration     // when to say that there is none yet
	say      func(text string) // progress; called by the waiting goroutine
}

// NoAddressError says that no load balancer gave the gateway of a context an
// address. It wraps why the wait ended.
type NoAddressError struct {
	Context string
	Err     error
}

func (e NoAddressError) Error() string { return e.Err.Error() }
func (e NoAddressError) Unwrap() error { return e.Err }

// Next returns what to do where there is no load balancer.
func (e NoAddressError) Next() string {
	return "isthmus install " + e.Context + " --set gateway.serviceType=NodePort, or --gateway-address HOST:PORT"
}

// addresses waits until a gateway of the cluster has outside addresses, and
// returns them, host:port, sorted. A cluster without a gateway has none.
func (w gatewayWait) addresses(ctx context.Context, c *cluster.Cluster, namespace string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, w.patience)
	defer cancel()
	var addresses []string
	start, said, waiting := time.Now(), false, false
	err := cluster.Until(ctx, "an address of the east-west gateway in "+c.Context, func(ctx context.Context) (missing string, err error) {
		var services []corev1.Service
		if services, addresses, err = gateways(ctx, c, namespace); err != nil {
			return "", err
		}
		waiting = len(services) > 0 && len(addresses) == 0 && services[0].Spec.Type == corev1.ServiceTypeLoadBalancer
		if !waiting {
			return "", nil
		}
		if !said && time.Since(start) >= w.notice {
			said = true
			w.say(fmt.Sprintf("wait for the east-west gateway's address: none after %s; without a load balancer: %s", w.notice, NoAddressError{Context: c.Context}.Next()))
		}
		return "its Service has no load balancer address yet (has the cluster a load balancer?)", nil
	})
	if err != nil && waiting {
		return nil, NoAddressError{Context: c.Context, Err: err}
	}
	return addresses, err
}

// GatewaysNow returns the addresses that gateways of the cluster have now, sorted.
func GatewaysNow(ctx context.Context, c *cluster.Cluster, namespace string) ([]string, error) {
	_, addresses, err := gateways(ctx, c, namespace)
	return addresses, err
}

// gateways reads the gateways' Services and, for a NodePort, the nodes.
func gateways(ctx context.Context, c *cluster.Cluster, namespace string) ([]corev1.Service, []string, error) {
	list, err := c.Kube.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{LabelSelector: api.LabelGateway + "=" + api.GatewayEastWest})
	if err != nil {
		return nil, nil, err
	}
	var nodes []*ingest.Node
	if slices.ContainsFunc(list.Items, func(s corev1.Service) bool { return s.Spec.Type == corev1.ServiceTypeNodePort }) {
		found, err := c.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, nil, fmt.Errorf("list the nodes of a NodePort: %w", err)
		}
		for i := range found.Items {
			nodes = append(nodes, ingest.SlimNode(&found.Items[i]))
		}
	}
	var addresses []string
	for i := range list.Items {
		addresses = append(addresses, ingest.GatewayAddresses(ingest.SlimService(&list.Items[i]), slices.Values(nodes))...)
	}
	slices.Sort(addresses)
	return list.Items, slices.Compact(addresses), nil
}
