package clusterset

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// gatewayPatience is how long a load balancer may take to give an address.
const gatewayPatience = 2 * time.Minute

// GatewayAddresses waits until a gateway of the cluster has outside addresses,
// and returns them, host:port, sorted. A cluster without a gateway has none.
func GatewayAddresses(ctx context.Context, c *cluster.Cluster, namespace string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, gatewayPatience)
	defer cancel()
	var addresses []string
	err := cluster.Until(ctx, "an address of the east-west gateway in "+c.Context, func(ctx context.Context) (string, error) {
		list, err := c.Kube.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{LabelSelector: api.LabelGateway + "=" + api.GatewayEastWest})
		if err != nil {
			return "", err
		}
		addresses = nil
		for i := range list.Items {
			addresses = append(addresses, outside(&list.Items[i])...)
		}
		if len(list.Items) > 0 && len(addresses) == 0 && list.Items[0].Spec.Type == corev1.ServiceTypeLoadBalancer {
			return "its Service has no load balancer address yet", nil
		}
		return "", nil
	})
	slices.Sort(addresses)
	return addresses, err
}

// GatewaysNow returns the addresses that gateways of the cluster have now, sorted.
func GatewaysNow(ctx context.Context, c *cluster.Cluster, namespace string) ([]string, error) {
	list, err := c.Kube.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{LabelSelector: api.LabelGateway + "=" + api.GatewayEastWest})
	if err != nil {
		return nil, err
	}
	var addresses []string
	for i := range list.Items {
		addresses = append(addresses, outside(&list.Items[i])...)
	}
	slices.Sort(addresses)
	return addresses, nil
}

// outside returns the addresses that a gateway's Service tells itself; those of
// a NodePort are its nodes' and not told here.
func outside(s *corev1.Service) []string {
	if given := s.Annotations[api.AnnotationGatewayAddresses]; given != "" {
		return strings.Split(given, ",")
	}
	var out []string
	for _, ingress := range s.Status.LoadBalancer.Ingress {
		host := ingress.IP
		if host == "" {
			host = ingress.Hostname
		}
		out = append(out, net.JoinHostPort(host, strconv.Itoa(api.PortEastWest)))
	}
	return out
}
