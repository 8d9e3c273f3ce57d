# SPDX-License-Identifier: Apache-2.0
"""
What the commands of maintainer scripts do, as far as an upgrade in an image is concerned: tables, no code.

They come from the scripts of Debian's own packages. A command that is in no table is unknown, and nothing good is
assumed about it.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

__all__ = [
    "ATTRIBUTES",
    "BYTE_COMPILERS",
    "CACHES",
    "DERIVERS",
    "FILE_CHANGERS",
    "IDEMPOTENT",
    "INSPECTING",
    "QUERIES",
    "SERVICES",
    "SERVICE_VERBS",
    "SHELL_BUILTINS",
    "Deriver",
]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


INSPECTING = _names(
    """
    : [ [[ { cd echo false id ls printf pwd return set sleep stat test true type umask which
    basename cut dirname expr getent groups head pathfind readlink realpath seq tac tail tr wc
    getopt logname nproc tput tty uname whoami arch df getconf
    dpkg-query dpkg-realpath dpkg-vendor ischroot mountpoint pidof pgrep ps netstat fuser sync
    cat cksum cmp comm diff egrep fgrep grep join ldd md5sum nl objdump od paste rev sha1sum sha224sum sha256sum
    sha384sum sha512sum strings zcat zgrep b2sum base64 fold fmt expand unexpand rpm-query pathchk printenv
    chdir dirs popd pushd times ulimit wait jobs bg fg disown help
    aa-enabled selinuxenabled systemd-detect-virt systemd-escape getcap getfacl getfattr locale modinfo lsmod
    pg_controldata pg_lsclusters pg_config exim_dumpdb testparm
    logger log_action_begin_msg log_action_cont_msg log_action_end_msg log_daemon_msg log_end_msg
    log_failure_msg log_success_msg log_warning_msg log_progress_msg warning
    """
)
"""They look at names and attributes, or only at their arguments, and write nothing but their output."""

SHELL_BUILTINS = _names(
    """
    alias bind builtin caller command compgen complete compopt continue coproc declare break dirs enable eval exec exit
    export fc getopts history let local logout mapfile readarray readonly return select set shift shopt source suspend
    trap typeset unalias unset . function time until
    """
)
"""Names that a shell knows without a program, and that do more than to look: they are never "not in the image"."""

SERVICES = _names(
    """
    deb-systemd-invoke invoke-rc.d kill killall pkill policy-rc.d rc-service service
    telinit init initctl runlevel dbus-send apparmor_parser restorecon setenforce load_policy nscd
    needrestart notify-reboot-required systemd-notify loginctl runit-helper reboot-notifier
    """
)
"""They speak to a running system; an image has none."""

SERVICE_VERBS: Mapping[str, frozenset[str]] = {
    "systemctl": _names(
        "start stop restart reload try-restart reload-or-restart try-reload-or-restart daemon-reload daemon-reexec "
        "kill is-active is-enabled is-failed is-system-running status show cat list-units list-unit-files reset-failed "
        "set-property"
    ),
    "systemd-update-helper": _names(
        "mark-restart-system-units mark-reload-system-units mark-restart-user-units mark-reload-user-units "
        "system-reload-restart system-reload system-restart user-reload-restart user-reload user-restart"
    ),
    "udevadm": _names("trigger control settle info monitor"),
    "start-stop-daemon": _names("--stop -K --status -T"),
    "journalctl": _names("--update-catalog"),
}
"""The same of some; what else these do changes files."""

QUERIES: Mapping[str, frozenset[str]] = {
    "dpkg": _names(
        "-s -l -L -S -p --status --list --listfiles --search --print-avail --compare-versions --print-architecture "
        "--print-foreign-architectures --version --validate-version --validate-pkgname --get-selections --verify"
    ),
    "update-alternatives": _names("--list --query --display --get-selections"),
    "dpkg-divert": _names("--list --listpackage --truename"),
    "dpkg-statoverride": _names("--list"),
    "dpkg-maintscript-helper": _names("supports"),
    "deb-systemd-helper": _names("was-enabled is-enabled debian-installed"),
    "dpkg-trigger": _names("--check-supported"),
    "update-binfmts": _names("--display --find"),
    "ucfq": frozenset(("",)),
    "apt-config": frozenset(("",)),
    "crontab": _names("-l"),
    "dpkg-deb": _names("-I -f -c -W --info --field --contents --show"),
}
"""Operations that only ask; an empty one stands for all."""

IDEMPOTENT = _names(
    """
    addgroup adduser deluser delgroup groupadd groupdel groupmod gpasswd useradd userdel usermod passwd chpasswd
    chfn chsh pwck grpck pwconv grpconv shadowconfig setpriv runuser su
    a2enmod a2dismod a2enconf a2disconf a2ensite a2dissite apache2_invoke lighty-enable-mod phpenmod phpdismod
    php_invoke phpquery add-shell remove-shell
    db_purge debconf-communicate debconf-set-selections debconf-show
    deb-systemd-helper update-rc.d update-inetd systemd-machine-id-setup dbus-uuidgen
    ssh-keygen rndc-confgen make-ssl-cert openssl keytool gpg gpgv apt-key
    dpkg-divert dpkg-statoverride update-locale ucfr pg_checksystem
    """
)
"""
They bring the system into a state that follows from the script and from the configuration, not from the packages'
files: the same script has brought it there already, and a new version of the program does the same.
"""

FILE_CHANGERS = _names(
    "cp dd gzip install ln mkdir mkfifo mknod mv patch rename rm rmdir rsync shred split tar tee touch "
    "truncate unlink tempfile rename.ul dpkg-deb gzip bzip2 xz zstd"
)
ATTRIBUTES = _names("chacl chattr chgrp chmod chown setcap setfacl setfattr")
BYTE_COMPILERS = _names("py3compile py3clean pycompile pyclean pypy3compile pypy3clean")


class Deriver(Struct, frozen=True):
    """A command that makes a cache or an index out of what lies below some paths."""

    inputs: tuple[str, ...]
    names_only: bool = False
    """The result depends on which files there are; new builds of the same files give the same."""
    rebuilt: str = ""
    """Why a stale result does no harm; empty when it does."""


_FONTS = (
    "etc/X11/fonts",
    "usr/local/share/fonts",
    "usr/share/X11/fonts",
    "usr/share/fonts",
    "usr/share/fonts-urw-base35",
    "usr/share/ghostscript/fonts",
    "usr/share/texmf/fonts",
)
_EMACS = ("usr/lib/emacsen-common", "usr/share/emacs/site-lisp", "usr/share/emacs-site-lisp")
_MANUALS = "the manual's index serves only apropos and whatis, and man-db's own timer renews it"

DERIVERS: Mapping[str, Deriver] = {
    "glib-compile-schemas": Deriver(("usr/share/glib-2.0/schemas",)),
    "gio-querymodules": Deriver(("usr/lib/gio/modules", "usr/lib/*/gio/modules"), names_only=True),
    "gdk-pixbuf-query-loaders": Deriver(
        ("usr/lib/gdk-pixbuf-2.0/2.10.0/loaders", "usr/lib/*/gdk-pixbuf-2.0/2.10.0/loaders"), names_only=True
    ),
    "gtk-query-immodules-3.0": Deriver(("usr/lib/*/gtk-3.0",), names_only=True),
    "gtk-update-icon-cache": Deriver(("usr/share/icons",), names_only=True),
    "update-icon-caches": Deriver(("usr/share/icons",), names_only=True),
    "update-mime-database": Deriver(("usr/share/mime/packages",)),
    "update-desktop-database": Deriver(("usr/share/applications",)),
    "update-mime": Deriver(("usr/lib/mime/packages", "usr/share/applications")),
    "update-menus": Deriver(("usr/share/menu", "usr/lib/menu", "etc/menu", "etc/menu-methods")),
    "fc-cache": Deriver(_FONTS, rebuilt="fontconfig checks its caches against the directories' times"),
    "update-fonts-dir": Deriver(_FONTS),
    "update-fonts-scale": Deriver(_FONTS),
    "update-fonts-alias": Deriver(_FONTS),
    "update-gsfontmap": Deriver(
        ("etc/ghostscript", "usr/share/ghostscript", "usr/share/fonts", "var/lib/ghostscript"), names_only=True
    ),
    "install-info": Deriver(("usr/share/info",), names_only=True),
    "update-info-dir": Deriver(("usr/share/info",), names_only=True),
    "mandb": Deriver((), rebuilt=_MANUALS),
    "journalctl": Deriver(("usr/lib/systemd/catalog",)),
    "depmod": Deriver(("lib/modules", "usr/lib/modules")),
    "update-initramfs": Deriver(("boot", "lib/modules", "usr/lib/modules")),
    "update-grub": Deriver(("boot",)),
    "mktexlsr": Deriver(("usr/share/texmf", "usr/share/texlive", "usr/share/texmf-dist")),
    "update-texmf": Deriver(("etc/texmf", "usr/share/texmf", "usr/share/texlive")),
    "fmtutil-sys": Deriver(("usr/share/texmf", "usr/share/texlive")),
    "pam-auth-update": Deriver(("usr/share/pam-configs", "usr/share/pam")),
    "update-passwd": Deriver(("usr/share/base-passwd",)),
    "update-shells": Deriver(("usr/share/debianutils/shells.d",)),
    "systemd-sysusers": Deriver(("usr/lib/sysusers.d", "etc/sysusers.d")),
    "systemd-tmpfiles": Deriver(("usr/lib/tmpfiles.d", "etc/tmpfiles.d")),
    "systemd-hwdb": Deriver(("usr/lib/udev/hwdb.d", "lib/udev/hwdb.d", "etc/udev/hwdb.d")),
    "locale-gen": Deriver(("usr/share/i18n", "etc/locale.gen")),
    "update-binfmts": Deriver(("usr/share/binfmts",)),
    "update-exim4.conf": Deriver((), rebuilt="exim4 writes this file anew whenever it starts"),
    "pg_updatedicts": Deriver(("usr/share/hunspell", "usr/share/myspell/dicts")),
    "update-catalog": Deriver(("etc/sgml", "usr/share/sgml")),
    "update-xmlcatalog": Deriver(("etc/xml", "usr/share/xml")),
    "helpztags": Deriver(("usr/share/vim",), names_only=True),
    "emacs-install": Deriver(_EMACS),
    "emacs-remove": Deriver(_EMACS),
    "emacs-package-install": Deriver(_EMACS),
    "emacs-package-remove": Deriver(_EMACS),
    "update-dictcommon-hunspell": Deriver(("usr/share/hunspell",)),
    "update-dictcommon-aspell": Deriver(("usr/lib/aspell", "usr/share/aspell")),
    "update-cracklib": Deriver(("usr/share/dict",)),
}
CACHES: Mapping[str, str] = {
    "gdk-pixbuf-query-loaders": "loaders.cache",
    "gio-querymodules": "giomodule.cache",
    "gtk-query-immodules-3.0": "immodules.cache",
}
"""Names of the files that some of them make."""
