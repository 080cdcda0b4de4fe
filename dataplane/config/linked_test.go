package config

import (
	"testing"

	"google.golang.org/protobuf/reflect/protoregistry"
)

// Every message that is said to be implemented is linked into the program. (This
// package's tests must not import such messages themselves.)
func TestImplementedMessagesAreLinked(t *testing.T) {
	for name := range implemented {
		if _, err := protoregistry.GlobalTypes.FindMessageByName(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
