package ingest

import (
	"strings"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/mcs"
)

// ParseProtocol tells what a port speaks: its appProtocol if it has one, else
// the part of its name before the first '-' (Istio's convention), else its
// number where servers of that protocol speak first.
func ParseProtocol(p mcs.Port) federation.Protocol {
	if p.Transport != mcs.TCP {
		return federation.ProtocolUDP
	}
	name := p.AppProtocol
	if name == "" {
		name, _, _ = strings.Cut(p.Name, "-")
	}
	if protocol, ok := protocolByName(strings.ToLower(name)); ok {
		return protocol
	}
	switch p.Number {
	case 25, 53, 3306, 27017: // SMTP, DNS, MySQL, MongoDB
		return federation.ProtocolTCP
	}
	return federation.ProtocolAuto
}

func protocolByName(name string) (federation.Protocol, bool) {
	switch name {
	case "http", "kubernetes.io/ws":
		return federation.ProtocolHTTP, true
	case "http2", "h2c", "kubernetes.io/h2c", "grpc", "grpcweb":
		return federation.ProtocolHTTP2, true
	case "grpc-web":
		return federation.ProtocolHTTP, true
	case "tcp", "tls", "https", "kubernetes.io/wss", "mongo", "mysql", "redis":
		return federation.ProtocolTCP, true
	}
	return federation.ProtocolAuto, false
}
