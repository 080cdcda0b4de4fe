package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// A balancer gives Services of type LoadBalancer an address on the underlay:
// it puts the address on the node and into the Service's status. kube-proxy
// does the rest.
type balancer struct {
	client   kubernetes.Interface
	services listers.ServiceLister
	pool     netip.Prefix
}

func (n *node) runLoadBalancers(ctx context.Context, kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	services := factory.Core().V1().Services()
	b := &balancer{client: client, services: services.Lister(), pool: n.LoadBalancers}
	changed := make(chan struct{}, 1)
	mark := func(any) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	registration, err := services.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: mark, UpdateFunc: func(_, o any) { mark(o) }, DeleteFunc: mark,
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		return ctx.Err()
	}
	b.run(ctx, changed, mark)
	return nil
}

func (b *balancer) run(ctx context.Context, changed <-chan struct{}, mark func(any)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
		if err := b.sync(ctx); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "load balancer addresses")
			time.AfterFunc(time.Second, func() { mark(nil) })
		}
	}
}

// sync makes addresses on the node and statuses agree with the Services.
func (b *balancer) sync(ctx context.Context) error {
	all, err := b.services.List(labels.Everything())
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(x, y *corev1.Service) int {
		return x.CreationTimestamp.Compare(y.CreationTimestamp.Time)
	})
	given := map[netip.Addr]bool{}
	for _, s := range all {
		if ip := b.has(s); ip.IsValid() && wants(s) {
			given[ip] = true
		}
	}
	var failed []error
	for _, s := range all {
		ip := b.has(s)
		switch {
		case !wants(s) && !ip.IsValid(), wants(s) && ip.IsValid():
			continue
		case wants(s):
			if ip, err = b.pick(s, given); err != nil {
				failed = append(failed, err)
				continue
			}
			given[ip] = true
		default:
			ip = netip.Addr{}
		}
		failed = append(failed, b.write(ctx, s, ip))
	}
	return errors.Join(append(failed, b.setAddresses(given))...)
}

func wants(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.LoadBalancerClass == nil && s.DeletionTimestamp == nil
}

// has returns the address that s was given, if any.
func (b *balancer) has(s *corev1.Service) netip.Addr {
	for _, ingress := range s.Status.LoadBalancer.Ingress {
		if ip, err := netip.ParseAddr(ingress.IP); err == nil && b.pool.Contains(ip) {
			return ip
		}
	}
	return netip.Addr{}
}

// pick chooses the wanted address, else the first free one.
func (b *balancer) pick(s *corev1.Service, given map[netip.Addr]bool) (netip.Addr, error) {
	if want, err := netip.ParseAddr(s.Spec.LoadBalancerIP); err == nil {
		if !b.pool.Contains(want) || given[want] {
			return want, fmt.Errorf("service %s/%s wants the address %s, which is taken or not of %s", s.Namespace, s.Name, want, b.pool)
		}
		return want, nil
	}
	for ip := b.pool.Addr().Next(); b.pool.Contains(ip.Next()); ip = ip.Next() {
		if !given[ip] {
			return ip, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("service %s/%s: all addresses of %s are given", s.Namespace, s.Name, b.pool)
}

// write sets the status of s, or clears it when ip is not valid.
func (b *balancer) write(ctx context.Context, s *corev1.Service, ip netip.Addr) error {
	ingress := []corev1.LoadBalancerIngress{}
	if ip.IsValid() {
		ingress = append(ingress, corev1.LoadBalancerIngress{IP: ip.String(), IPMode: new(corev1.LoadBalancerIPModeVIP)})
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"loadBalancer": map[string]any{"ingress": ingress}}})
	if err != nil {
		return err
	}
	_, err = b.client.CoreV1().Services(s.Namespace).Patch(ctx, s.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// setAddresses makes eth0 bear the given addresses and no other of the pool.
func (b *balancer) setAddresses(given map[netip.Addr]bool) error {
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	have, err := netlink.AddrList(link, unix.AF_INET)
	if err != nil {
		return err
	}
	var failed []error
	missing := map[netip.Addr]bool{}
	for ip := range given {
		missing[ip] = true
	}
	for _, addr := range have {
		ip, _ := netip.AddrFromSlice(addr.IP.To4())
		if b.pool.Contains(ip) && !given[ip] {
			failed = append(failed, netlink.AddrDel(link, &addr))
		}
		delete(missing, ip)
	}
	for ip := range missing {
		failed = append(failed, netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(32, 32)}}))
	}
	return errors.Join(failed...)
}
