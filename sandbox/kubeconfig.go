package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/isthmus-mesh/isthmus/sandbox/plan"
)

// InternalServerExtension is the name of the extension of a kubeconfig's
// cluster entry that holds, as a string, the API server's address as other
// clusters reach it.
const InternalServerExtension = "isthmus.dev/internal-server"

// writeKubeconfig joins the clusters' kubeconfigs into one, with the addresses
// that work from the host.
func (s *Sandbox) writeKubeconfig() error {
	all := clientcmdapi.NewConfig()
	for _, c := range s.state.Plan.Clusters {
		one, err := clientcmd.LoadFromFile(s.adminKubeconfig(c.Name))
		if err != nil {
			return fmt.Errorf("read kubeconfig of %s: %w", c.Name, err)
		}
		cluster, user, context := one.Clusters[c.Name], one.AuthInfos[c.Name], one.Contexts[c.Name]
		if cluster == nil || user == nil || context == nil {
			return fmt.Errorf("read kubeconfig of %s: incomplete", c.Name)
		}
		internal, err := json.Marshal(cluster.Server)
		if err != nil {
			return err
		}
		cluster.Extensions = map[string]runtime.Object{
			InternalServerExtension: &runtime.Unknown{Raw: internal, ContentType: runtime.ContentTypeJSON},
		}
		cluster.Server = fmt.Sprintf("https://127.0.0.1:%d", s.state.Ports[c.Name])
		cluster.LocationOfOrigin, user.LocationOfOrigin, context.LocationOfOrigin = "", "", ""
		all.Clusters[c.Name], all.AuthInfos[c.Name], all.Contexts[c.Name] = cluster, user, context
	}
	all.CurrentContext = s.state.Plan.Clusters[0].Name
	data, err := clientcmd.Write(*all)
	if err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	path := s.Kubeconfig()
	return errors.Join(os.WriteFile(path+".new", data, 0o600), os.Rename(path+".new", path))
}

func (s *Sandbox) adminKubeconfig(cluster string) string {
	return filepath.Join(s.dir, plan.ClustersDir, cluster, "control", "kubeconfig")
}
