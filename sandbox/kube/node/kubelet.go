package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// kubeletConfig is for a node without cgroups, in user namespaces or not. It
// trusts the cluster's authority and, of those, lets everybody do everything.
const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
featureGates: {KubeletInUserNamespace: true}
containerRuntimeEndpoint: unix://%[1]s
address: %[2]s
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: false}
  x509: {clientCAFile: %[3]s}
authorization: {mode: AlwaysAllow}
tlsCertFile: %[4]s
tlsPrivateKeyFile: %[5]s
clusterDNS: [%[6]s]
clusterDomain: cluster.local
resolvConf: ""
podLogsDir: %[7]s
volumePluginDir: %[8]s/volume-plugins
cgroupsPerQOS: false
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
localStorageCapacityIsolation: false
oomScoreAdj: 0
evictionHard: {}
imageGCHighThresholdPercent: 100
serializeImagePulls: false
registryPullQPS: 0
eventRecordQPS: 0
kubeAPIQPS: 200
kubeAPIBurst: 400
maxPods: 250
nodeStatusUpdateFrequency: 2s
syncFrequency: 10s
volumeStatsAggPeriod: -1s
`

func (n *node) runKubelet(ctx context.Context) error {
	pair, err := n.pki.Server(n.NodeName, n.NodeAddress.String(), "127.0.0.1", "localhost")
	if err != nil {
		return err
	}
	cert, key, err := pair.Write(n.dir, "kubelet")
	if err != nil {
		return err
	}
	kubeconfig := filepath.Join(n.dir, "kubelet.kubeconfig")
	if err := n.kubeconfig(kubeconfig, "system:node:"+n.NodeName, "system:nodes"); err != nil {
		return err
	}
	config := fmt.Sprintf(kubeletConfig, n.socket(), n.NodeAddress, filepath.Join(n.Dir, "ca.crt"), cert, key, n.DNS, n.Logs, n.dir)
	path := filepath.Join(n.dir, "kubelet.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return err
	}
	cmd := kubelet.NewKubeletCommand(ctx)
	cmd.SetArgs([]string{
		"--config=" + path,
		"--kubeconfig=" + kubeconfig,
		"--hostname-override=" + n.NodeName,
		"--node-ip=" + n.NodeAddress.String(),
		"--root-dir=/var/lib/kubelet",
		"--cert-dir=" + n.dir,
		"--node-labels=topology.kubernetes.io/region=" + n.Name + ",topology.kubernetes.io/zone=" + n.Name + "-a",
	})
	if err := cmd.ExecuteContext(ctx); err != nil {
		return fmt.Errorf("kubelet: %w", err)
	}
	return nil
}
