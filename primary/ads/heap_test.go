package ads

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Names cost memory for as long as the stream lasts, of whatever type: a client
// that heaps them up is cut, and one that lets go of them may go on. (faults 28, 49)
func TestHeapsOfNames(t *testing.T) {
	names := make([]string, 1000)
	for n := range names {
		names[n] = fmt.Sprint(n, strings.Repeat("x", 2000))
	}
	s := newSession(false, time.Now())
	for range 20 { // the same ones again and again are held once
		if _, err := s.handle(&request{url: "type.googleapis.com/t", subscribe: names}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.handle(&request{url: "type.googleapis.com/t", unsubscribe: names}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range maxTypes {
		_, err := s.handle(&request{url: fmt.Sprint("type.googleapis.com/t", i), subscribe: names})
		if errors.Is(err, errRequest) {
			return
		}
	}
	t.Errorf("%d types of %d names each are held", len(s.types), len(names))
}
