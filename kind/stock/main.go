// Command stock is the programs of a stock Kubernetes node and control plane
// in one static binary, for node images that are built where none can be
// pulled (kind/). It is the program by whose name it is called, with that
// program's own flags and nothing of ours, so links to it are all an image needs.
package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // metrics that dashboards expect
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	kubeproxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

func main() {
	name := filepath.Base(os.Args[0])
	run, known := programs()[name]
	if !known {
		names := slices.Sorted(maps.Keys(programs()))
		fmt.Fprintf(os.Stderr, "stock: no program %q: call me as one of %s\n", name, strings.Join(names, ", "))
		os.Exit(2)
	}
	os.Exit(run())
}

// programs returns each program's main by its name; a main returns the exit code.
func programs() map[string]func() int {
	return map[string]func() int{
		"etcd":                    runEtcd,
		"kube-apiserver":          command(apiserver.NewAPIServerCommand),
		"kube-controller-manager": command(controllermanager.NewControllerManagerCommand),
		"kube-proxy":              command(kubeproxy.NewProxyCommand),
		"kube-scheduler":          command(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
		"kubeadm":                 runKubeadm,
		"kubectl":                 runKubectl,
		"kubelet":                 runKubelet,
	}
}
