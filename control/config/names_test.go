package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// Every setting that names a cookie or a header field is checked as a token, and the fault says which of the two it is.
func TestNamesInHeadersAreTokens(t *testing.T) {
	t.Parallel()
	found := 0
	walkStructs(reflect.TypeFor[Config](), func(section reflect.Type) {
		for _, f := range fieldsOf(section) {
			of := f.Type
			if of.Kind() == reflect.Slice {
				of = of.Elem()
			}
			says := strings.ToLower(section.Name() + "." + f.key)
			names := strings.HasSuffix(says, "cookie") || strings.HasSuffix(says, "header") ||
				strings.HasSuffix(says, "headers") || strings.HasSuffix(says, "header.name")
			if of.Kind() != reflect.String || !names {
				continue
			}
			found++
			if !strings.Contains(f.Tag.Get("jsonschema"), "pattern=^[!#$%&'*+.^_|~0-9A-Za-z-]") {
				t.Errorf("%s is not checked as a token", says)
			}
			if cookie := strings.HasSuffix(says, "cookie"); cookie != f.rules.cookie {
				t.Errorf("%s: a fault says that it is a cookie: %v", says, f.rules.cookie)
			}
		}
	})
	if found < 6 {
		t.Errorf("%d such settings found", found)
	}
	for _, name := range []string{"a b", "a;b", "ü", "a=b", `a"b`, "a,b", "a\tb"} {
		for setting, want := range map[string]string{"cookie": wantCookie, "header": wantFieldName} {
			document := saleDocument(fmt.Sprintf("{routes: [buy], item: path.sku, stock: {a: 1}, admit: 1/s, "+
				"waitingRoom: {%s: %q}}", setting, name))
			checkFaults(t, document, []string{
				fmt.Sprintf("15:87: sales.x.waitingRoom.%s: %q is not %s", setting, name, want)})
		}
	}
}

func undoingWith(undo, setting string) string {
	return "transactions: {t: {steps: [{name: a, do: {service: a, path: /}, undo: {service: a, path: /u" + undo +
		"}}], " + setting + "}}"
}
