//! The name by which measurements of this machine's processor are filed.

/// Maker, family, model and stepping, and the name the processor gives itself: what decides how fast code is. Other
/// architectures than x86-64 do not tell, and are called by their name alone.
pub fn cpu_name() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        let id = raw_cpuid::CpuId::new();
        let vendor = id.get_vendor_info().map(|v| v.as_str().to_owned()).unwrap_or_default();
        let features = id.get_feature_info();
        let [family, model, stepping] = features.map_or([0; 3], |f| [f.family_id(), f.model_id(), f.stepping_id()]);
        let brand = id.get_processor_brand_string();
        let brand = brand.as_ref().map_or("", |b| b.as_str().trim());
        format!("{vendor} {family}/{model}/{stepping} {brand}")
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::env::consts::ARCH.to_owned()
}
