package csr

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/trust"
)

// maxToken bounds a bearer token in bytes; the API server's are near 1,200.
const maxToken = 16 << 10

// tokenLeeway is how far clocks may differ before an expired token is refused
// without asking the API server, which decides otherwise.
const tokenLeeway = time.Minute

// bearer returns the token of "authorization: Bearer TOKEN".
func bearer(ctx context.Context) (string, error) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) != 1 {
		return "", errors.New("neither a client certificate nor a bearer token")
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if !ok || !strings.EqualFold(scheme, "bearer") || token == "" || len(token) > maxToken {
		return "", errors.New("authorization is not a bearer token")
	}
	return token, nil
}

// tokenCluster reads from a token, without believing it, to which cluster it
// says it belongs: the one whose API server is then asked. Tokens that no API
// server would accept for us are refused here and cost no review.
func tokenCluster(token string, now time.Time) (string, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || parts[2] == "" {
		return "", errors.New("token is not a signed jwt")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", errors.New("token is not a jwt")
	}
	var claims struct {
		Audience audience `json:"aud"`
		Expires  float64  `json:"exp"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return "", errors.New("token is not a jwt")
	}
	if claims.Expires > 0 && float64(now.Add(-tokenLeeway).Unix()) > claims.Expires {
		return "", errors.New("token has expired")
	}
	return claims.Audience.cluster()
}

// audience is one string or a list of them. (RFC 7519 §4.1.3)
type audience []string

func (a *audience) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(a))
}

func (a audience) cluster() (string, error) {
	found := ""
	for _, name := range a {
		cluster, ok := strings.CutPrefix(name, api.TokenAudience(""))
		if !ok {
			continue
		}
		if found != "" || !trust.ValidCluster(cluster) {
			return "", errors.New("token has no single cluster as audience")
		}
		found = cluster
	}
	if found == "" {
		return "", errors.New("token has no cluster as audience")
	}
	return found, nil
}
