package proxy

import (
	"net/url"
	"testing"
)

// Paths have one form before anything is decided by them.
func TestNormalize(t *testing.T) {
	for in, want := range map[string]string{
		"/":               "/",
		"/a/b":            "/a/b",
		"/a/./b":          "/a/b",
		"/a/../b":         "/b",
		"/../../a":        "/a",
		"/a/..":           "/",
		"/a/b/..":         "/a/",
		"/a/.":            "/a/",
		"/a/%2e%2E/b":     "/b",
		"/a/%2Fb":         "/a/%2Fb",
		"/a%5C..%5Cb":     "/b",
		"/.hidden/..x":    "/.hidden/..x",
		"/a//b":           "/a//b",
		"/%E2%82%AC/./x":  "/%E2%82%AC/x",
		"/a;v=1/b?q=/../": "/a;v=1/b",
	} {
		u, err := url.ParseRequestURI(in)
		if err != nil {
			t.Fatal(err)
		}
		if err := normalize(u); err != nil || u.EscapedPath() != want {
			t.Errorf("%s: %s %v, want %s", in, u.EscapedPath(), err, want)
		}
	}
}

func FuzzNormalize(f *testing.F) {
	f.Add("/a/../b")
	f.Add("/%2e%2e/%5c")
	f.Fuzz(func(t *testing.T, in string) {
		u, err := url.ParseRequestURI(in)
		if err != nil || u.Path == "" || u.Path[0] != '/' || normalize(u) != nil {
			return
		}
		once := u.EscapedPath()
		if once == "" || once[0] != '/' {
			t.Errorf("%q became %q", in, once)
		}
		if err := normalize(u); err != nil || u.EscapedPath() != once {
			t.Errorf("%q: %q, again %q %v", in, once, u.EscapedPath(), err)
		}
	})
}
