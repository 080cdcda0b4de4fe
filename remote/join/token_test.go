package join

import (
	"encoding/base64"
	"testing"
)

func FuzzParseToken(f *testing.F) {
	f.Add("x." + base64.RawURLEncoding.EncodeToString([]byte(`{"iat":1,"exp":2,"sub":"system:serviceaccount:ns:name"}`)) + ".y")
	f.Add("..")
	f.Add("x.e30.y")
	f.Fuzz(func(t *testing.T, token string) {
		c, err := parseToken(token)
		if err == nil && c.Subject != "system:serviceaccount:"+c.namespace+":"+c.account {
			t.Errorf("claims %+v", c)
		}
	})
}
