package config

import (
	"fmt"
	"strconv"
	"strings"

	statev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	setstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
)

const (
	stateCluster = "envoy.tcp_proxy.cluster"
	operatorPort = "%DOWNSTREAM_LOCAL_PORT%"
	maxFormat    = 4096 // bytes
)

// ClusterFormat is the name of an xds cluster in which the port that a
// connection came to is filled in.
type ClusterFormat struct {
	parts []string // between the ports
}

// Name returns the xds cluster of a connection to port, the original
// destination's where there is one.
func (f *ClusterFormat) Name(port uint16) string {
	return strings.Join(f.parts, strconv.Itoa(int(port)))
}

// parseClusterFormat takes plain text and %DOWNSTREAM_LOCAL_PORT%. Any other
// use of the per cent sign is refused, %% too.
func parseClusterFormat(text string) (*ClusterFormat, error) {
	if text == "" || len(text) > maxFormat {
		return nil, fmt.Errorf("not 1 to %d bytes", maxFormat)
	}
	f := &ClusterFormat{parts: strings.Split(text, operatorPort)}
	for _, p := range f.parts {
		if strings.ContainsAny(p, "%\x00\r\n") {
			return nil, unsupported("format", fmt.Sprintf("%q", text))
		}
	}
	return f, nil
}

// parseSetState takes the one use of set_filter_state that is implemented: the
// xds cluster of tcp_proxy.
func (c *Chain) parseSetState(path string, m *setstatev3.Config) error {
	values := m.GetOnNewConnection()
	if len(values) != 1 || c.Cluster != nil {
		return unsupported(path+".on_new_connection", "anything but one value for a connection")
	}
	f, err := parseState(path+".on_new_connection[0]", values[0])
	c.Cluster = f
	return err
}

func parseState(path string, v *statev3.FilterStateValue) (*ClusterFormat, error) {
	if v.GetObjectKey() != stateCluster {
		return nil, unsupported(path+".object_key", v.GetObjectKey())
	}
	path += ".format_string.text_format_source.inline_string"
	f, err := parseClusterFormat(v.GetFormatString().GetTextFormatSource().GetInlineString())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}
