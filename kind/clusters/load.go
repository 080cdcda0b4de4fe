package clusters

import (
	"os"

	"sigs.k8s.io/kind/pkg/cluster/nodeutils"

	"github.com/isthmus-mesh/isthmus/kind/topology"
)

// Load imports image archives into every node of the topology.
func (l Lab) Load(archives []string) error {
	return l.each(func(c topology.Cluster) error {
		nodes, err := l.provider(c.Name).ListInternalNodes(c.Name)
		if err != nil {
			return err
		}
		for _, node := range nodes {
			for _, archive := range archives {
				file, err := os.Open(archive)
				if err != nil {
					return err
				}
				err = nodeutils.LoadImageArchive(node, file)
				file.Close()
				if err != nil {
					return err
				}
			}
		}
		l.Progress.Say(c.Name, "loaded %d images", len(archives))
		return nil
	})
}
