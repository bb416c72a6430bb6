// Package systemd is what a service manager and the process say to each other: which listening sockets it hands over
// (socket activation, sd_listen_fds(3)), and how the process stands (sd_notify(3)). Any supervisor that speaks these
// protocols will do.
//
// # Sockets
//
// The manager opens the sockets and keeps them open. A process that ends closes only its own copy, so connections that
// come while the next one starts wait in the kernel's queue, and none is refused. A socket goes to the listener whose
// address it has. Its name (FileDescriptorName=) may say which listener it is meant for: one that is named for a
// listener and has another address is a fault, since an admin address that is written as a loopback one must not be
// served to everybody. One that no listener wants is told and closed; a listener without one opens its own.
//
// # Notifications
//
// READY when requests are served, RELOADING and READY around a reload, STOPPING when the drain begins, WATCHDOG as long
// as the process can do what serving a request takes, and a line for `systemctl status`. Each is one datagram, sent at
// once and given up after a second: a manager that does not read holds nothing up. A failure is logged, at most once a
// minute.
//
// Without LISTEN_FDS and NOTIFY_SOCKET in the environment nothing of this costs anything.
package systemd
