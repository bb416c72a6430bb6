package discovery

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/kubeapi"
	"github.com/sluice-gateway/sluice/control/config"
)

var httpPort = []kubeapi.Port{{Name: "http", Number: 80}}

func slice(name string, addresses ...string) kubeapi.Slice {
	return kubeapi.Slice{Name: name, Namespace: "shop", Service: "order", Ports: httpPort,
		Endpoints: kubeapi.Ready(addresses...)}
}

// clusterOf returns a configuration whose service order is that of a cluster.
func clusterOf(t *testing.T, api *kubeapi.Server) *config.Config {
	t.Helper()
	return services(t, fmt.Sprintf("  order: {endpointsFrom: {kubernetes: {service: order, namespace: shop, "+
		"port: http, api: %q, token: %q, ca: %q}}}", api.URL, api.Token, api.CA))
}

// openCluster returns a watcher of the service order, which has the endpoint 10.0.0.1.
func openCluster(t *testing.T, o Options) (*kubeapi.Server, *bench) {
	t.Helper()
	api := kubeapi.Start(t)
	api.Put(slice("order-1", "10.0.0.1"))
	b := newBench(t, o)
	b.Configure(clusterOf(t, api))
	b.want("order", "10.0.0.1:80")
	awaitWatch(t, api, 0)
	b.sound("order")
	return api, b
}

// awaitWatch waits until a watch runs that is not one of the first n.
func awaitWatch(t *testing.T, api *kubeapi.Server, n int) kubeapi.Request {
	t.Helper()
	var last kubeapi.Request
	await(t, "another watch", func() bool {
		watches := requests(api, true)
		if len(watches) <= n {
			return false
		}
		last = watches[len(watches)-1]
		return api.Watching() == 1
	})
	return last
}

func requests(api *kubeapi.Server, watches bool) (list []kubeapi.Request) {
	for _, r := range api.Requests() {
		if r.Watch == watches {
			list = append(list, r)
		}
	}
	return list
}

func TestClusterIsListedAndWatched(t *testing.T) {
	t.Parallel()
	api, b := openCluster(t, Options{})
	api.Put(kubeapi.Slice{Name: "other", Namespace: "shop", Service: "stock", Ports: httpPort,
		Endpoints: kubeapi.Ready("10.9.9.9")})
	api.Put(kubeapi.Slice{Name: "order-1", Namespace: "other", Service: "order", Ports: httpPort,
		Endpoints: kubeapi.Ready("10.9.9.8")})
	api.Put(slice("order-2", "10.0.0.2", "10.0.0.3"))
	b.want("order", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80")
	six := slice("order-6", "2001:db8::1")
	six.Type = "IPv6"
	api.Put(six)
	b.want("order", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "[2001:db8::1]:80")
	leaving := slice("order-2", "10.0.0.2", "10.0.0.3")
	yes, no := true, false
	leaving.Endpoints[0].Ready, leaving.Endpoints[0].Terminating = &no, &yes
	api.Put(leaving)
	b.want("order", "10.0.0.1:80", "10.0.0.3:80", "[2001:db8::1]:80")
	api.Delete("shop", "order-1")
	api.Delete("shop", "order-6")
	b.want("order", "10.0.0.3:80")
	api.Delete("shop", "order-2")
	b.want("order")
	s := b.status("order")
	if s.Endpoints != 0 || s.Fault != "" || !strings.Contains(s.Note, "there is no EndpointSlice") {
		t.Errorf("status %+v", s)
	}
	if n := len(requests(api, false)); n != 1 {
		t.Errorf("it was listed %d times", n)
	}
	if first := api.Requests()[0]; first.ResourceVersion != "0" {
		t.Errorf("the first list has version %q: it may come from the server's cache", first.ResourceVersion)
	}
	if w := requests(api, true)[0]; !w.Bookmarks || w.Token != "first-token" {
		t.Errorf("the watch is %+v", w)
	}
}

// TestWatchGoesOn: what happens while a watch is broken is not missed, and all is not listed again.
func TestWatchGoesOn(t *testing.T) {
	t.Parallel()
	api, b := openCluster(t, Options{})
	for i := range 5 {
		n := len(requests(api, true))
		api.Disconnect()
		api.Put(slice("order-1", fmt.Sprintf("10.0.1.%d", i)))
		b.want("order", fmt.Sprintf("10.0.1.%d:80", i))
		awaitWatch(t, api, n)
	}
	api.Bookmark()
	n := len(requests(api, true))
	var version string
	await(t, "the bookmark is read", func() bool { // that it was is seen by the next watch
		api.Disconnect()
		version = awaitWatch(t, api, n).ResourceVersion
		return version == "107"
	})
	if n := len(requests(api, false)); n != 1 {
		t.Errorf("it was listed %d times", n)
	}
	b.sound("order")
}

// TestGone: a version that is gone has all listed again, whatever tells so, and it is no failure.
func TestGone(t *testing.T) {
	t.Parallel()
	for name, disconnect := range map[string]bool{"an event": false, "a status": true} {
		api, b := openCluster(t, Options{})
		if disconnect { // the next watch begins too early
			api.Fail(kubeapi.Fault{Watch: true, Status: 410, Body: `{"kind":"Status","code":410,"reason":"Expired"}`})
			api.Disconnect()
		}
		api.Compact()
		api.Put(slice("order-1", "10.0.0.2"))
		b.want("order", "10.0.0.2:80")
		await(t, "it is listed again", func() bool { return len(requests(api, false)) > 1 })
		if again := requests(api, false)[1]; again.ResourceVersion != "" {
			t.Errorf("%s: the list has version %q: the cache may be as old", name, again.ResourceVersion)
		}
		if log := b.logged(); strings.Contains(log, "410") {
			t.Errorf("%s is logged as a failure:\n%s", name, log)
		}
		api.Delete("shop", "order-1")
		b.want("order")
	}
}

// TestRestoredCluster: a cluster that knows only older versions is listed whatever it has.
func TestRestoredCluster(t *testing.T) {
	t.Parallel()
	api, b := openCluster(t, Options{})
	api.Fail(kubeapi.Fault{Watch: true, Body: "garbage", Event: true}) // what has it listed again
	api.Restore()
	api.Disconnect()
	api.Put(slice("order-1", "10.0.0.2"))
	b.want("order", "10.0.0.2:80")
	b.sound("order")
}

// TestClusterFaults: whatever the API says that is not right, the endpoints stay, the status says why, and they follow
// when it is right again.
func TestClusterFaults(t *testing.T) {
	t.Parallel()
	const item = `{"metadata":{"name":"order-9","namespace":"shop","labels":{"kubernetes.io/service-name":"order"}}`
	list := func(body string) kubeapi.Fault { return kubeapi.Fault{Body: body} }
	watch := func(body string) kubeapi.Fault { return kubeapi.Fault{Watch: true, Body: body, Event: true} }
	slow := Options{Timeout: 50 * time.Millisecond}
	for _, c := range []struct {
		name  string
		fault kubeapi.Fault
		want  string
	}{
		{"refused", kubeapi.Fault{Status: 500}, "says 500 Internal Server Error"},
		{"not allowed", kubeapi.Fault{Status: 403, Body: `{"message":"endpointslices is\nforbidden"}`},
			"says 403 Forbidden endpointslices is forbidden (the account has to be allowed to list and watch"},
		{"a redirect", kubeapi.Fault{Status: 302}, "says 302 Found"},
		{"slow", kubeapi.Fault{Hang: true}, "timeout awaiting response headers"},
		{"broken off", kubeapi.Fault{Body: `{"kind":"EndpointSlice`, Abort: true}, "reading the list"},
		{"no JSON", list("<html>"), "the list is not right"},
		{"cut", list(`{"kind":"EndpointSliceList","items":[`), "the list is not right"},
		{"another kind", list(`{"kind":"PodList","metadata":{"resourceVersion":"1"}}`), `"PodList" and not`},
		{"no version", list(`{"kind":"EndpointSliceList","items":[]}`), "has no resourceVersion"},
		{"wrong types", list(`{"kind":"EndpointSliceList","items":[{"endpoints":5}]}`), "the list is not right"},
		{"a watch that is refused", kubeapi.Fault{Watch: true, Status: 503, Body: "x"}, "says 503"},
		{"a watch that is slow", kubeapi.Fault{Watch: true, Hang: true}, "timeout awaiting response headers"},
		{"a watch that breaks off", kubeapi.Fault{Watch: true, Abort: true, Body: `{"type":`}, "the watch broke"},
		{"no event", watch("garbage"), "sent what is not right"},
		{"half an event", watch(`{"type":"ADDED","object":` + item), "sent what is not right"},
		{"an event of another kind", watch(`{"type":"RENAMED","object":{"metadata":{"resourceVersion":"1"}}}`),
			`of type "RENAMED"`},
		{"an event without a version", watch(`{"type":"ADDED","object":` + item + `}}`), "without a resourceVersion"},
		{"an event with wrong types", watch(`{"type":"ADDED","object":{"ports":1}}`), "sent what is not right"},
		{"an event of a failure", watch(`{"type":"ERROR","object":{"code":500,"message":"etcd"}}`), "says 500"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := Options{}
			if c.fault.Hang {
				o = slow
			}
			api, b := openCluster(t, o)
			if !c.fault.Watch { // what has it listed again
				api.Fail(watch("garbage"))
			}
			c.fault.Stays = true
			api.Fail(c.fault)
			api.Disconnect()
			b.fault("order", c.want)
			api.Heal()
			b.sound("order")
			if got := b.of("order"); got != "[10.0.0.1:80]" {
				t.Errorf("the endpoints are %s", got)
			}
			api.Put(slice("order-2", "10.0.0.2"))
			b.want("order", "10.0.0.1:80", "10.0.0.2:80")
		})
	}
}

// TestLongEvent: an event is read no further than its bound.
func TestLongEvent(t *testing.T) {
	t.Parallel()
	api, b := openCluster(t, Options{})
	api.Fail(kubeapi.Fault{Watch: true, Event: true, Stays: true,
		Body: `{"type":"ADDED","object":{"a":"` + strings.Repeat("x", eventMax)})
	api.Disconnect()
	b.fault("order", "more than 8388608 bytes")
	api.Heal()
	api.Put(slice("order-2", "10.0.0.2"))
	b.want("order", "10.0.0.1:80", "10.0.0.2:80")
}

// TestTokenIsRotated: a token that is taken no more is said not to be, and the next one in the file is used. No token
// is shown.
func TestTokenIsRotated(t *testing.T) {
	t.Parallel()
	api, b := openCluster(t, Options{})
	api.Take("second-token")
	api.Put(slice("order-1", "10.0.0.2"))
	b.want("order", "10.0.0.2:80") // a watch that runs goes on
	api.Disconnect()
	b.fault("order", "401 Unauthorized Unauthorized (the token of")
	for text, want := range map[string]string{
		"": "does not have one line of visible characters", "two\nsecret-lines": "does not have one line",
	} {
		replace(t, api.Token, text)
		b.fault("order", want)
	}
	if err := os.Remove(api.Token); err != nil {
		t.Fatal(err)
	}
	b.fault("order", api.Token+": no such file or directory")
	replace(t, api.Token, "second-token\n")
	b.sound("order")
	api.Put(slice("order-1", "10.0.0.3"))
	b.want("order", "10.0.0.3:80")
	shown := b.logged() + fmt.Sprint(b.Status())
	for _, secret := range []string{"first-token", "second-token", "secret-lines"} {
		if strings.Contains(shown, secret) {
			t.Errorf("%s is shown", secret)
		}
	}
}

func replace(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// TestAuthority: a server whose certificate comes from nobody that the file names gets no request, and so no token;
// when the file is replaced it is believed.
func TestAuthority(t *testing.T) {
	t.Parallel()
	api := kubeapi.Start(t)
	api.Put(slice("order-1", "10.0.0.1"))
	right, err := os.ReadFile(api.CA)
	if err != nil {
		t.Fatal(err)
	}
	replace(t, api.CA, "no certificate")
	b := newBench(t, Options{})
	b.Configure(clusterOf(t, api))
	b.fault("order", "has no certificate in PEM")
	replace(t, api.CA, wrongAuthority(t))
	b.fault("order", "certificate signed by unknown authority")
	if n := len(api.Requests()); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
	replace(t, api.CA, string(right))
	b.want("order", "10.0.0.1:80")
}

// TestPages: a service of many slices is listed in pages.
func TestPages(t *testing.T) {
	t.Parallel()
	api, b := openCluster(t, Options{Gather: 100 * time.Millisecond})
	api.Fail(kubeapi.Fault{Watch: true, Status: 410, Body: "{}"}) // behind it the list is not from the cache
	for i := range 2*listPage + 10 {
		api.Put(slice(fmt.Sprintf("order-%04d", i+2), fmt.Sprintf("10.1.%d.%d", i/250, i%250)))
	}
	api.Disconnect()
	await(t, "all endpoints", func() bool { return b.status("order").Endpoints == 2*listPage+11 })
	await(t, "three pages", func() bool { return len(requests(api, false)) == 1+3 })
	for i, r := range requests(api, false)[1:] {
		if (r.Continue == "") != (i == 0) || r.Limit != listPage || r.ResourceVersion != "" {
			t.Errorf("page %d is asked for by %+v", i, r)
		}
	}
}
