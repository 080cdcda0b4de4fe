package launcher

import (
	"net"
	"net/http"
	"strings"

	"github.com/isthmus-mesh/isthmus/sandbox/capture"
)

// captureUnderlay streams what nodes send over the underlay, as a pcap file, until
// the caller goes away. Each packet appears once.
func captureUnderlay(w http.ResponseWriter, r *http.Request) {
	ports, err := nodePorts()
	begun := false
	if err == nil {
		flush := http.NewResponseController(w)
		err = capture.Stream(r.Context(), w, ports, func() { begun = true; _ = flush.Flush() })
	}
	switch {
	case err != nil && begun:
		panic(http.ErrAbortHandler) // the caller must not take what came for all
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// nodePorts are the indexes of the underlay's ends of the nodes' devices.
func nodePorts() (map[int]bool, error) {
	devices, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	ports := map[int]bool{}
	for _, device := range devices {
		if strings.HasPrefix(device.Name, "node") {
			ports[device.Index] = true
		}
	}
	return ports, nil
}
