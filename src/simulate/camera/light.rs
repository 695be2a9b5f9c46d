//! Light: sun, sky, lamps and air, in lux and candela per square metre, red, green and blue.
//!
//! * Sun: E = 127.5 klx · exp(−τ m), with the relative air mass m by Kasten and Young (1989) and an optical depth τ per
//!   channel of Rayleigh scattering, 0.008735 λ^−4.08 (λ in µm), and of aerosol by Ångström, 0.05 λ^−1.3. In green it is
//!   0.209, the 0.21 of the clear sky of the IES Lighting Handbook, from which the sky's light is taken too: 0.8 +
//!   15.5 √sin h klx on level ground under a clear sky, 0.3 + 21 sin h klx under cloud (h: elevation of the sun).
//! * Below the horizon the sky fades from 800 lx at 0° to 3.4 lx at −6° (civil twilight) and on along the same line of
//!   the logarithm, down to the glow of a city.
//! * Air: what is seen fades to the light of the air by exp(−βd) (Koschmieder 1924); rain adds 1.076 R^0.67 dB/km
//!   (ITU-R P.1814).

use parry3d::math::Vector;

use super::super::scene::Weather;

/// Red, green, blue.
pub(super) type Rgb = Vector;

/// Sun outside of the air, lux.
const SOLAR_LUX: f32 = 127_500.0;
/// Mean wavelength of red, green and blue, µm.
const WAVELENGTHS_UM: [f32; 3] = [0.61, 0.55, 0.465];
/// What a city's sky gives at night, lux on level ground.
const CITY_GLOW_LUX: f32 = 0.25;
/// Straight below a street lamp, candela.
const STREET_LAMP_CD: f32 = 1100.0;
/// Light of 3,000 K.
pub(super) const WARM: Rgb = Rgb::new(1.35, 0.95, 0.52);
/// What street lamps give a street on average, lux (class P1 of EN 13201-2 asks for 15).
const LAMPS_LUX: f32 = 15.0;
/// Reflectance of the surroundings.
const GROUND_ALBEDO: f32 = 0.15;
/// Under this share of open sky there are no shadows of the sun.
const HARD_SHARE: f32 = 0.03;

/// Everything that lights a scene.
#[derive(Clone, Debug)]
pub struct Light {
    /// Towards the sun, length 1.
    pub to_sun: Vector,
    /// From the sun on a plane that faces it, lux; 0 without a sun.
    pub sun: Vector,
    /// From the whole sky on level ground, lux.
    pub sky: Vector,
    /// Share of the sky under cloud.
    pub cloud: f32,
    /// Whether there is a sky at all; without one, light comes from all sides alike.
    pub is_outdoors: bool,
    /// Whether lamps of vehicles burn, and those of the street and in windows unless there is a power cut.
    pub is_dark: bool,
    /// Lamps that shine down, unit frame, metres.
    pub lamps: Vec<Vector>,
    /// Of each lamp straight down, candela.
    pub lamp_cd: Vector,
    /// Of the air, 1/m.
    pub extinction: f32,
    /// What distance fades to, cd/m².
    pub air: Vector,
    /// Rain, mm/h; what lies on the ground is wet then.
    pub rain_mm_h: f32,
}

impl Light {
    /// A weather's light; `lamps` burn when the sun is down.
    #[must_use]
    pub fn outdoors(weather: &Weather, lamps: &[Vector]) -> Self {
        let (height, azimuth) =
            (weather.sun_elevation_deg as f32, (weather.sun_azimuth_deg as f32).to_radians());
        let level = height.to_radians().cos();
        let to_sun = Vector::new(level * azimuth.sin(), level * azimuth.cos(), height.to_radians().sin());
        let cloud = weather.cloud as f32;
        let open = 1.0 - cloud;
        let sun = if height > 0.0 && open > HARD_SHARE { sunlight(height) * open } else { Rgb::ZERO };
        let is_dark = weather.is_dark();
        let sky = skylight(height, cloud) + Rgb::new(1.15, 0.95, 0.75) * CITY_GLOW_LUX;
        let rain = weather.rain_mm_h as f32;
        let rain_db_km = if rain > 0.0 { 1.076 * rain.powf(0.67) } else { 0.0 };
        let mut light = Self {
            to_sun,
            sun,
            sky,
            cloud,
            is_outdoors: true,
            is_dark,
            lamps: if is_dark && weather.lamps { lamps.to_vec() } else { Vec::new() },
            lamp_cd: WARM * STREET_LAMP_CD,
            // 10 dB are a factor of e^2.303.
            extinction: weather.extinction() as f32 + rain_db_km * std::f32::consts::LN_10 / 10.0 / 1000.0,
            air: Rgb::ZERO,
            rain_mm_h: rain,
        };
        light.air = light.airlight();
        light
    }

    /// A room: `lux` on every level surface from all sides, and lamps of `lamp_cd` under its ceiling.
    #[must_use]
    pub fn indoors(lux: f32, lamps: &[Vector], lamp_cd: f32) -> Self {
        Self {
            to_sun: Vector::Z,
            sun: Rgb::ZERO,
            sky: Rgb::splat(lux),
            cloud: 1.0,
            is_outdoors: false,
            is_dark: false,
            lamps: lamps.to_vec(),
            lamp_cd: Rgb::splat(lamp_cd),
            extinction: 0.0,
            air: Rgb::ZERO,
            rain_mm_h: 0.0,
        }
    }

    /// Whether the sun throws shadows.
    pub(super) fn has_sun(&self) -> bool {
        self.sun.max_element() > 0.0
    }

    /// On level ground from sun and sky, lux.
    pub(super) fn global(&self) -> Rgb {
        self.sky + self.sun * self.to_sun.z.max(0.0)
    }

    /// The share of what is seen that gets through the air.
    pub(super) fn clear(&self, distance: f32) -> f32 {
        if self.extinction > 0.0 { (-self.extinction * distance).exp() } else { 1.0 }
    }

    /// The horizon's sky; in fog lamps light the air as well.
    fn airlight(&self) -> Rgb {
        let lamps = if self.lamps.is_empty() { Rgb::ZERO } else { WARM * (self.extinction * 30.0).min(0.4) };
        // In thick fog the light of the sun comes from all sides.
        let thick = (self.extinction / 0.02).min(1.0);
        let clear = self.sky * 1.2 + self.sun * 0.02;
        (clear + (self.global() * 0.9 - clear) * thick) / std::f32::consts::PI + lamps
    }

    /// Luminance of the sky, without single clouds and without the sun's disc, cd/m².
    pub(super) fn sky(&self, ray: Vector) -> Rgb {
        let even = self.sky / std::f32::consts::PI;
        if !self.is_outdoors {
            return even;
        }
        let up = ray.z.clamp(0.0, 1.0);
        // The standard overcast sky of the CIE, whose zenith is 9/7 of the mean.
        let overcast = even * (9.0 / 7.0 * (1.0 + 2.0 * up) / 3.0);
        let low = Rgb::new(1.28, 1.24, 1.15);
        let high = Rgb::new(0.42, 0.72, 1.25);
        let mut clear = even * (low + (high - low) * up.sqrt());
        // At dusk the horizon below the sun is warm.
        let level = Vector::new(self.to_sun.x, self.to_sun.y, 0.0).normalize_or(Vector::Y);
        let facing = (0.5 + 0.5 * ray.dot(level)).max(0.0);
        let lowness = (1.0 - self.to_sun.z.abs() / 0.2).max(0.0);
        let glow = lowness * facing * facing * (1.0 - up).powi(6);
        clear += even * Rgb::new(2.6, 1.1, 0.35) * glow;
        if self.has_sun() {
            let near = ray.dot(self.to_sun).max(0.0);
            clear += self.sun * (0.015 * near.powi(24) + 0.09 * near.powi(400));
        }
        clear + (overcast - clear) * self.cloud
    }

    /// What a smooth surface mirrors: sky, and in place of the street a dark band along the horizon.
    pub(super) fn around(&self, ray: Vector) -> Rgb {
        let even = self.global() / std::f32::consts::PI;
        if !self.is_outdoors {
            return self.sky / std::f32::consts::PI * 0.6;
        }
        // Edges 0.08 wide look like a rough horizon.
        let band = ((0.22 - ray.z) / 0.08).clamp(0.0, 1.0);
        let ground = ((-0.02 - ray.z) / 0.06).clamp(0.0, 1.0);
        let sky = if band < 1.0 { self.sky(ray) } else { Rgb::ZERO };
        let wall = even * Rgb::new(0.26, 0.23, 0.2);
        sky.lerp(wall, band).lerp(even * 0.09, ground)
    }

    /// Illuminance of the lamps on a surface, lux, without shadows; `is_lit` says which lamp gets through.
    pub(super) fn lamps(&self, point: Vector, normal: Vector, is_lit: impl Fn(Vector) -> bool) -> Rgb {
        self.lamps_of(&self.lamps, point, normal, is_lit)
    }

    /// The same of some of the lamps.
    pub(super) fn lamps_of(
        &self,
        lamps: &[Vector],
        point: Vector,
        normal: Vector,
        is_lit: impl Fn(Vector) -> bool,
    ) -> Rgb {
        let mut sum = 0.0;
        for &lamp in lamps {
            let to = lamp - point;
            let square = to.length_squared();
            if !(1e-4..=LAMP_REACH_M * LAMP_REACH_M).contains(&square) {
                continue;
            }
            let distance = square.sqrt();
            let (facing, down) = (normal.dot(to) / distance, to.z / distance);
            if facing > 0.0 && down > 0.0 && is_lit(lamp) {
                sum += facing * down / square;
            }
        }
        self.lamp_cd * sum
    }
}

/// Lamps further away are left out, metres.
const LAMP_REACH_M: f32 = 35.0;

/// Relative air mass at an elevation in degrees.
fn air_mass(height: f32) -> f32 {
    1.0 / (height.to_radians().sin() + 0.505_72 * (height + 6.079_95).powf(-1.6364))
}

/// The optical depth of clear air, red, green, blue.
fn optical_depth() -> [f32; 3] {
    WAVELENGTHS_UM.map(|um| 0.008_735 * um.powf(-4.08) + 0.05 * um.powf(-1.3))
}

/// From the sun on a plane that faces it; white is the light of sun and clear sky at 45°.
fn sunlight(height: f32) -> Rgb {
    let mass = air_mass(height);
    Rgb::from(optical_depth().map(|depth| SOLAR_LUX * (-depth * mass).exp())) * Rgb::new(0.96, 1.0, 1.14)
}

/// From the sky on level ground, lux.
fn skylight(height: f32, cloud: f32) -> Rgb {
    let sine = height.max(0.0).to_radians().sin();
    let dusk = 10f32.powf(height.min(0.0) * (800f32 / 3.4).log10() / 6.0);
    let clear = Rgb::new(0.82, 0.99, 1.3) * ((800.0 + 15_500.0 * sine.sqrt()) * dusk);
    let overcast = Rgb::new(0.98, 1.0, 1.04) * ((300.0 + 21_000.0 * sine) * dusk);
    clear.lerp(overcast, cloud)
}

/// Head lamps of a vehicle, as one, in the middle between them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beam {
    pub from: Vector,
    /// Where they shine, level, length 1.
    pub forward: Vector,
    /// Metres until something stands in the way.
    pub reach: f32,
}

impl Beam {
    /// Furthest that is lit, metres.
    pub const REACH_M: f32 = 32.0;
    /// Furthest to the side that is lit, metres.
    pub const ASIDE_M: f32 = 9.0;
    /// Both lamps together, candela; UN Regulation 112 asks for 10,100 cd per lamp at least at its test points 50R and
    /// 75R (class B).
    const PEAK_CD: f32 = 24_000.0;
    /// Blueish, as light-emitting diodes are.
    const TINT: Rgb = Rgb::new(0.95, 1.0, 1.12);

    /// Candela in a direction: dipped, so that little goes above the horizon.
    fn candela(tan_aside: f32, tan_up: f32) -> f32 {
        let aside = (-(tan_aside / 0.4).powi(2)).exp();
        let up = if tan_up > -0.008 { 0.025 } else { (-((tan_up + 0.02) / 0.11).powi(2)).exp() };
        Self::PEAK_CD * aside * up
    }

    /// Illuminance on a surface, lux.
    pub fn light(&self, point: Vector, normal: Vector) -> Rgb {
        let to = point - self.from;
        let ahead = to.dot(self.forward);
        if !(0.2..=self.reach.min(Self::REACH_M)).contains(&ahead) {
            return Rgb::ZERO;
        }
        let aside = self.forward.x * to.y - self.forward.y * to.x;
        if aside.abs() > Self::ASIDE_M {
            return Rgb::ZERO;
        }
        let square = to.length_squared();
        let facing = -normal.dot(to) / square.sqrt();
        if facing <= 0.0 {
            return Rgb::ZERO;
        }
        let fade = (1.0 - ahead / Self::REACH_M).min(0.25) * 4.0;
        Self::TINT * (Self::candela(aside / ahead, to.z / ahead) * facing * fade / square)
    }
}

/// Fresnel's reflectance of a smooth surface by Schlick (1994): f₀ + (1 − f₀)(1 − cos θ)⁵.
pub(super) fn schlick(straight: f32, cosine: f32) -> f32 {
    let off = (1.0 - cosine).clamp(0.0, 1.0);
    let square = off * off;
    straight + (1.0 - straight) * square * square * off
}

/// The share of the sky's light on level ground that a long wall of this height takes from a place this far before it:
/// the form factor (1 − cos α) / 2 of the strip from the horizon to the elevation α of its top.
pub(super) fn hidden_by_wall(height: f32, distance: f32) -> f32 {
    let slope = height.hypot(distance).max(1e-3);
    0.5 * (1.0 - distance / slope)
}

/// What the ground sends up, lux on a surface that looks down: of a street its reflectance, of a room half its light.
pub(super) fn bounce(light: &Light) -> Rgb {
    if !light.is_outdoors {
        return light.sky * 0.5;
    }
    let lamps = if light.lamps.is_empty() { Rgb::ZERO } else { WARM * LAMPS_LUX };
    (light.global() + lamps) * GROUND_ALBEDO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sun_is_as_bright_and_as_warm_as_the_air_lets_it_be() {
        // Kasten and Young: 1.0 overhead, 1.99 at 30°, 38 on the horizon.
        assert!((air_mass(90.0) - 1.0).abs() < 1e-3, "{}", air_mass(90.0));
        assert!((air_mass(30.0) - 1.994).abs() < 2e-3, "{}", air_mass(30.0));
        assert!((air_mass(0.0) - 37.92).abs() < 0.1, "{}", air_mass(0.0));
        // The Handbook's clear sky has 0.21.
        assert!((optical_depth()[1] - 0.21).abs() < 0.005, "{:?}", optical_depth());
        // 127.5·exp(−0.209·1.994) = 84 klx.
        assert!((sunlight(30.0).y - 84_000.0).abs() < 300.0, "{}", sunlight(30.0).y);
        let [noon, low] = [60.0, 4.0].map(sunlight);
        assert!(low.x / low.z > 2.5 * noon.x / noon.z, "{noon} {low}");
    }

    #[test]
    fn the_sky_fades_as_measured() {
        let green = |height, cloud| skylight(height, cloud).y;
        // 0.8 + 15.5 √sin 30° = 11.76 klx, 0.3 + 21 sin 30° = 10.8 klx.
        assert!(
            (green(30.0, 0.0) / 0.99 - 11_760.0).abs() < 2.0 && (green(30.0, 1.0) - 10_800.0).abs() < 1.0
        );
        assert!((green(-6.0, 0.0) / 0.99 - 3.4).abs() < 0.01, "{}", green(-6.0, 0.0));
        assert!(green(-12.0, 0.0) < 0.02);
    }

    #[test]
    fn air_takes_contrast_by_koschmieders_law() {
        let weather = Weather { visibility_m: 150.0, ..Weather::default() };
        let light = Light::outdoors(&weather, &[]);
        assert!((light.clear(150.0) - 0.05).abs() < 1e-4, "5 % are left at the visibility");
        // 10 mm/h: 1.076·10^0.67 = 5.03 dB/km, of which 100 m leave 10^−0.0503 = 0.891.
        let rain = Light::outdoors(&Weather { rain_mm_h: 10.0, visibility_m: 1e12, ..weather }, &[]);
        assert!((rain.clear(100.0) - 0.891).abs() < 1e-3, "{}", rain.clear(100.0));
    }

    #[test]
    fn lamps_burn_at_night_and_obey_the_inverse_square() {
        let lamps = [Vector::new(0.0, 0.0, 5.0)];
        let night = Weather { sun_elevation_deg: -20.0, ..Weather::default() };
        assert!(Light::outdoors(&Weather::default(), &lamps).lamps.is_empty());
        let light = Light::outdoors(&night, &lamps);
        let below = light.lamps(Vector::ZERO, Vector::Z, |_| true);
        assert!((below.y - 0.95 * STREET_LAMP_CD / 25.0).abs() < 1e-3, "{below}");
        assert_eq!(light.lamps(Vector::ZERO, -Vector::Z, |_| true), Rgb::ZERO);
        assert_eq!(light.lamps(Vector::ZERO, Vector::Z, |_| false), Rgb::ZERO);
        assert!(!light.has_sun());
    }

    #[test]
    fn dipped_head_lamps_light_the_road_and_not_the_sky() {
        let beam = Beam { from: Vector::new(0.0, 0.0, 0.7), forward: Vector::X, reach: 100.0 };
        let road = beam.light(Vector::new(12.0, 0.5, 0.0), Vector::Z).y;
        // By hand: tan −0.7/12 = −0.0583, exp(−(0.0383/0.11)²) = 0.886; aside exp(−(0.0417/0.4)²) = 0.989; 24 kcd ·
        // 0.876 · (0.7/12.03) / 144.74 = 8.45 lx.
        assert!((road - 8.45).abs() < 0.05, "{road}");
        let wall = |z: f32| beam.light(Vector::new(12.0, 0.0, z), -Vector::X).y;
        assert!(wall(0.4) > 20.0 * wall(2.0), "{} {}", wall(0.4), wall(2.0));
        assert_eq!(beam.light(Vector::new(-3.0, 0.0, 0.0), Vector::Z), Rgb::ZERO);
        let stopped = Beam { reach: 5.0, ..beam };
        assert_eq!(stopped.light(Vector::new(12.0, 0.5, 0.0), Vector::Z), Rgb::ZERO);
    }

    #[test]
    fn form_factors_have_their_known_values() {
        assert!((hidden_by_wall(1.0, 0.0) - 0.5).abs() < 1e-6);
        // 45°: (1 − cos 45°) / 2.
        assert!((hidden_by_wall(2.0, 2.0) - 0.146_447).abs() < 1e-5);
        assert!((schlick(0.04, 1.0) - 0.04).abs() < 1e-6 && (schlick(0.04, 0.0) - 1.0).abs() < 1e-6);
    }
}
