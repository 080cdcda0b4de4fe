package node

import (
	"context"
	"fmt"
	"path/filepath"

	kubeproxy "k8s.io/kubernetes/cmd/kube-proxy/app"
)

// runKubeProxy programs Services by way of the nft program. The zeros keep it
// from limits that cannot be set in a user namespace.
func (n *node) runKubeProxy(ctx context.Context) error {
	kubeconfig := filepath.Join(n.dir, "kube-proxy.kubeconfig")
	if err := n.kubeconfig(kubeconfig, "system:kube-proxy"); err != nil {
		return err
	}
	cmd := kubeproxy.NewProxyCommand()
	cmd.SilenceUsage = true
	cmd.SetArgs([]string{
		"--kubeconfig=" + kubeconfig,
		"--proxy-mode=nftables",
		"--hostname-override=" + n.NodeName,
		"--cluster-cidr=" + n.Pods.String(),
		"--conntrack-max-per-core=0", "--conntrack-min=0",
		"--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
		"--metrics-bind-address=127.0.0.1:10249",
		"--nodeport-addresses=primary",
	})
	if err := cmd.ExecuteContext(ctx); err != nil {
		return fmt.Errorf("kube-proxy: %w", err)
	}
	return nil
}
