//! The regions and operating systems that generated hosts are made of.

/// A place where racks stand.
pub(super) struct Region {
    pub(super) code: &'static str,
    pub(super) country: &'static str,
    pub(super) subdivision: &'static str,
    pub(super) city: &'static str,
    pub(super) latitude: f64,
    pub(super) longitude: f64,
}

macro_rules! regions {
    ($(($code:literal, $country:literal, $subdivision:literal, $city:literal, $latitude:literal, $longitude:literal)),+ $(,)?) => {
        [$(Region { code: $code, country: $country, subdivision: $subdivision, city: $city, latitude: $latitude, longitude: $longitude }),+]
    };
}

/// Neighbours stand side by side, so that a site's few regions lie near each other.
pub(super) const REGIONS: [Region; 24] = regions![
    ("fra1", "DE", "DE-HE", "Frankfurt am Main", 50.1109, 8.6821),
    ("ham1", "DE", "DE-HH", "Hamburg", 53.5511, 9.9937),
    ("vie1", "AT", "AT-9", "Wien", 48.2082, 16.3738),
    ("zrh1", "CH", "CH-ZH", "Zürich", 47.3769, 8.5417),
    ("ams1", "NL", "NL-NH", "Amsterdam", 52.3676, 4.9041),
    ("par1", "FR", "FR-IDF", "Paris", 48.8566, 2.3522),
    ("lon1", "GB", "GB-LND", "London", 51.5072, -0.1276),
    ("dub1", "IE", "IE-D", "Dublin", 53.3498, -6.2603),
    ("iad1", "US", "US-VA", "Ashburn", 39.0438, -77.4874),
    ("ord1", "US", "US-IL", "Chicago", 41.8781, -87.6298),
    ("sfo1", "US", "US-CA", "San Francisco", 37.7749, -122.4194),
    ("yyz1", "CA", "CA-ON", "Toronto", 43.6532, -79.3832),
    ("sin1", "SG", "SG-01", "Singapore", 1.3521, 103.8198),
    ("nrt1", "JP", "JP-13", "Tokyo", 35.6762, 139.6503),
    ("icn1", "KR", "KR-11", "Seoul", 37.5665, 126.978),
    ("syd1", "AU", "AU-NSW", "Sydney", -33.8688, 151.2093),
    ("gru1", "BR", "BR-SP", "São Paulo", -23.5505, -46.6333),
    ("scl1", "CL", "CL-RM", "Santiago", -33.4489, -70.6693),
    ("jnb1", "ZA", "ZA-GP", "Johannesburg", -26.2041, 28.0473),
    ("bom1", "IN", "IN-MH", "Mumbai", 19.076, 72.8777),
    ("sto1", "SE", "SE-AB", "Stockholm", 59.3293, 18.0686),
    ("hel1", "FI", "FI-18", "Helsinki", 60.1699, 24.9384),
    ("waw1", "PL", "PL-14", "Warszawa", 52.2297, 21.0122),
    ("mad1", "ES", "ES-MD", "Madrid", 40.4168, -3.7038),
];

/// An operating system and how it ages.
pub(super) struct System {
    pub(super) family: &'static str,
    pub(super) platform: &'static str,
    /// Share of the fleet in per cent.
    pub(super) weight: u64,
    /// Versions with the kernel each brings, oldest first; patching moves a host one to the right.
    pub(super) versions: [(&'static str, &'static str); 3],
}

/// The weights add up to 100.
pub(super) const SYSTEMS: [System; 7] = [
    System {
        family: "debian",
        platform: "linux",
        weight: 34,
        versions: [("12.10", "6.1.0-32-amd64"), ("12.11", "6.1.0-37-amd64"), ("12.12", "6.1.0-40-amd64")],
    },
    System {
        family: "ubuntu",
        platform: "linux",
        weight: 30,
        versions: [
            ("24.04.1", "6.8.0-45-generic"),
            ("24.04.2", "6.8.0-55-generic"),
            ("24.04.3", "6.8.0-79-generic"),
        ],
    },
    System {
        family: "rhel",
        platform: "linux",
        weight: 15,
        versions: [("9.4", "5.14.0-427.el9"), ("9.5", "5.14.0-503.el9"), ("9.6", "5.14.0-570.el9")],
    },
    System {
        family: "windows",
        platform: "windows",
        weight: 10,
        versions: [
            ("10.0.20348.3207", "10.0.20348.3207"),
            ("10.0.20348.3692", "10.0.20348.3692"),
            ("10.0.20348.4171", "10.0.20348.4171"),
        ],
    },
    System {
        family: "alpine",
        platform: "linux",
        weight: 6,
        versions: [("3.20.6", "6.6.31-0-virt"), ("3.21.3", "6.12.13-0-virt"), ("3.22.1", "6.12.38-0-virt")],
    },
    System {
        family: "freebsd",
        platform: "freebsd",
        weight: 3,
        versions: [("14.1", "14.1-RELEASE-p8"), ("14.2", "14.2-RELEASE-p3"), ("14.3", "14.3-RELEASE-p2")],
    },
    System {
        family: "darwin",
        platform: "darwin",
        weight: 2,
        versions: [("15.4.1", "24.4.0"), ("15.5", "24.5.0"), ("15.6.1", "24.6.0")],
    },
];
