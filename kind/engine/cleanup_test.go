package engine

import (
	"slices"
	"strings"
	"testing"
)

// Of what iptables lists, dockerd's goes, in an order that the kernel accepts; the rest stays.
func TestUndo(t *testing.T) {
	rules := `-P FORWARD DROP
-N DOCKER
-N DOCKER-USER
-N mine
-A FORWARD -j DOCKER-USER
-A FORWARD -i eth0 -j mine
-A DOCKER-USER -j RETURN
-A mine -p tcp -m tcp --dport 80 -j ACCEPT
`
	var got []string
	for _, command := range Undo(rules) {
		got = append(got, strings.Join(command, " "))
	}
	want := []string{"-D FORWARD -j DOCKER-USER", "-F DOCKER", "-F DOCKER-USER", "-X DOCKER", "-X DOCKER-USER"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
