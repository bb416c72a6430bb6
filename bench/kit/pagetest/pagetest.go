// Package pagetest checks pages of HTML that programs of this module write.
package pagetest

import (
	"strings"
	"testing"
)

// SelfContained fails the test when a page has a number that is none, a value that html/template
// refused, or anything from elsewhere.
func SelfContained(t testing.TB, page string) {
	t.Helper()
	for _, never := range []string{"NaN", "Inf", "ZgotmplZ", "http://", "https://", "<script"} {
		if strings.Contains(page, never) {
			t.Errorf("%q is in the page", never)
		}
	}
}
