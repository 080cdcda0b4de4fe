package sandbox

import (
	"fmt"
	"os"
	"strconv"
)

// Enter returns a command line that runs command in the network of a cluster's
// node, or of the underlay, with the host's files. It needs the program
// nsenter, and the rights of whoever started the sandbox.
func (s *Sandbox) Enter(cluster string, command ...string) ([]string, error) {
	line := []string{"nsenter", "--target", strconv.Itoa(s.state.Init), "--mount", "--net", "--pid"}
	if os.Geteuid() != 0 {
		line = append(line, "--user", "--preserve-credentials")
	}
	if cluster != "underlay" {
		if _, ok := s.state.Plan.Cluster(cluster); !ok {
			return nil, fmt.Errorf("no cluster %q: there are %v and underlay", cluster, names(s.state.Plan))
		}
		line = append(line, "nsenter", "--net=/run/isthmus/netns/"+cluster)
	}
	return append(line, command...), nil
}
